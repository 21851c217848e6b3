// One step of a persistent session with MQTT.js; prints what the test compares.
//
//   node session.js URL VERSION subscribe   ID TOPIC QOS        connect, subscribe, leave
//   node session.js URL VERSION publish     TOPIC QOS PAYLOAD   publish from a clean session
//   node session.js URL VERSION resume      ID TOPIC QOS COUNT  come back, wait for COUNT messages, leave
//   node session.js URL VERSION resubscribe ID TOPIC QOS COUNT  the same, with a SUBSCRIBE
//   node session.js URL VERSION stay        ID TOPIC QOS COUNT  the same as resume, reconnecting as often as needed
'use strict'

const mqtt = require('mqtt')

const [url, version, step, ...rest] = process.argv.slice(2)
const protocolVersion = Number(version)

function connect(options) {
  const all = { protocolVersion, reconnectPeriod: 0, resubscribe: false, ...options }
  if (protocolVersion === 3) all.protocolId = 'MQIsdp'
  if (protocolVersion === 5 && !all.clean) all.properties = { sessionExpiryInterval: 3600 }
  const client = mqtt.connect(url, all)
  client.on('error', (err) => {
    if (step === 'stay' || client.disconnecting) return // the broker is away, to come back; or we are leaving
    console.error(err)
    process.exit(1)
  })
  return client
}

function publish([topic, qos, payload]) {
  const client = connect({ clean: true })
  client.publish(topic, payload, { qos: Number(qos) }, (err) => {
    if (err) throw err
    client.end()
  })
}

function subscribe([clientId, topic, qos]) {
  const client = connect({ clean: false, clientId })
  client.on('connect', (connack) => {
    console.log('session present', connack.sessionPresent)
    client.subscribe(topic, { qos: Number(qos) }, (err, granted) => {
      if (err) throw err
      console.log('granted', granted[0].qos)
      client.end()
    })
  })
}

function receive([clientId, topic, qos, count]) {
  const client = connect({ clean: false, clientId, reconnectPeriod: step === 'stay' ? 100 : 0 })
  let left = Number(count)
  client.on('connect', (connack) => {
    if (step !== 'stay') console.log('session present', connack.sessionPresent)
    if (step === 'resubscribe') client.subscribe(topic, { qos: Number(qos) })
  })
  client.on('message', (name, payload, packet) => {
    console.log(name, packet.qos, packet.retain, payload.toString())
    left--
    if (left === 0) setImmediate(() => client.end()) // the acknowledgement of this message goes out first
  })
}

const steps = { publish, subscribe, resume: receive, resubscribe: receive, stay: receive }
steps[step](rest)
