// MQTT.js as a client under test.
'use strict'

const mqtt = require('mqtt')
const { serve, write, toProperties, toMessage } = require('./lines')

let client
let version
const aliased = {} // the topic of each alias

function connect(o) {
  version = o.version
  const options = {
    clientId: o.id,
    protocolVersion: version,
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    clean: !o.persistent,
    reconnectPeriod: 50,
    resubscribe: false, // the session has the subscriptions
  }
  if (version === 5) {
    options.properties = { topicAliasMaximum: o.aliases }
    if (o.persistent) options.properties.sessionExpiryInterval = 3600
  }
  if (o.will) {
    const { topic, payload, qos, retain } = o.will
    options.will = { topic, payload, qos, retain }
    if (version === 5) options.will.properties = toProperties(o.will)
  }
  client = mqtt.connect(o.url, options)
  client.on('message', (topic, payload, packet) => write({ message: toMessage(topic, payload, packet) }))
  client.on('error', () => {}) // the broker is away, and the library tries again; a test that waits in vain says so
  return new Promise((resolve, reject) => {
    client.once('connect', (connack) => {
      const answer = { sessionPresent: connack.sessionPresent }
      if (!o.filters) return resolve(answer)
      const subscription = { qos: o.qos }
      if (o.identifier) subscription.properties = { subscriptionIdentifier: o.identifier }
      client.subscribe(o.filters, subscription, (err, granted) => {
        if (err) return reject(err)
        const refused = granted.filter((g) => g.qos !== o.qos)
        if (refused.length > 0) return reject(new Error('granted ' + JSON.stringify(refused)))
        resolve(answer)
      })
    })
  })
}

// The publishes start in order, and overlap.
function publish(messages) {
  return Promise.all(messages.map((m) => {
    const options = { qos: m.qos, retain: m.retain }
    if (version === 5) options.properties = toProperties(m)
    const topic = m.alias && aliased[m.alias] === m.topic ? '' : m.topic
    if (m.alias) aliased[m.alias] = m.topic
    return client.publishAsync(topic, m.payload, options)
  })).then(() => {})
}

async function send(messages) {
  publish(messages).catch((err) => write({ error: String(err) }))
}

serve({ connect, publish, send, disconnect: () => client.endAsync() })
