// Node-RED's MQTT nodes as a client under test: the runtime without its editor, and a flow of the nodes
//
//   (commands) -> mqtt out      mqtt in, one for each filter -> function (messages)
//                 complete -> function (acknowledged)      catch -> function (failed)
//
// which share one mqtt-broker node. It subscribes each time it connects, as Node-RED always does.
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const runtime = require('@node-red/runtime')
const util = require('@node-red/util')
const { serve, write, toProperties } = require('./lines')

const coreNodesDir = path.dirname(require.resolve('@node-red/nodes/package.json'))

// Only the nodes of the flow are loaded: the others take a second.
const wanted = ['10-mqtt.js', '10-function.js', '24-complete.js', '25-catch.js']
const nodesExcludes = fs.readdirSync(path.join(coreNodesDir, 'core'), { recursive: true })
  .map((file) => path.basename(file))
  .filter((file) => file.endsWith('.js') && !wanted.includes(file))

// What the function nodes call.
const bridge = {
  arrived: (msg) => write({ message: toMessage(msg) }),
  acknowledged: (msg) => waiting.get(msg.number)?.resolve(),
  failed: (msg) => waiting.get(msg.number)?.reject(new Error(msg.error.message)),
}
const waiting = new Map() // the messages on their way out, by number
let number = 0

function flow(o) {
  const url = new URL(o.url)
  const broker = {
    id: 'broker',
    type: 'mqtt-broker',
    broker: url.protocol === 'ws:' ? o.url : url.hostname,
    port: url.port,
    clientid: o.id,
    protocolVersion: o.version,
    cleansession: !o.persistent,
    autoConnect: true,
    autoUnsubscribe: false, // or it unsubscribes when it is stopped
    keepalive: 60,
    sessionExpiry: o.persistent ? 3600 : 0,
  }
  if (o.will) {
    const { contentType, responseTopic, correlationData, messageExpiryInterval, userProperties } = toProperties(o.will)
    Object.assign(broker, {
      willTopic: o.will.topic,
      willPayload: o.will.payload,
      willQos: o.will.qos,
      willRetain: o.will.retain,
      willMsg: { contentType, respTopic: responseTopic, correl: correlationData, expiry: messageExpiryInterval, userProps: userProperties },
    })
  }
  const place = { z: 'flow', x: 0, y: 0 } // what has no place is a configuration
  const call = (id, what) => ({ ...place, id, type: 'function', func: `global.get('bridge').${what}(msg)`, outputs: 0, libs: [], wires: [] })
  const subscription = { ...place, type: 'mqtt in', broker: 'broker', qos: o.qos, nl: false, rap: false, rh: 0, datatype: 'utf8', inputs: 0, wires: [['arrived']] }
  return [
    { id: 'flow', type: 'tab' },
    broker,
    ...(o.filters || []).map((topic, i) => ({ ...subscription, id: 'in' + i, topic })),
    { ...place, id: 'out', type: 'mqtt out', broker: 'broker', wires: [] },
    { ...place, id: 'complete', type: 'complete', scope: ['out'], wires: [['acknowledged']] },
    { ...place, id: 'catch', type: 'catch', scope: ['out'], wires: [['failed']] },
    call('arrived', 'arrived'),
    call('acknowledged', 'acknowledged'),
    call('failed', 'failed'),
  ]
}

const nothing = async () => ({})

async function connect(o) {
  const storageModule = {
    init: nothing,
    getFlows: async () => flow(o),
    saveFlows: nothing,
    getCredentials: nothing,
    saveCredentials: nothing,
    getSettings: nothing,
    saveSettings: nothing,
    getSessions: nothing,
    saveSessions: nothing,
  }
  const settings = {
    coreNodesDir,
    nodesExcludes,
    userDir: __dirname,
    storageModule,
    functionGlobalContext: { bridge },
    mqttReconnectTime: 50,
    telemetry: { enabled: false, updateNotification: false },
    externalModules: { autoInstall: false },
    logging: { console: { level: 'off' } },
  }
  util.init(settings)
  runtime.init(settings)
  const answered = new Promise((resolve, reject) => {
    runtime.events.once('flows:started', () => listen(o, resolve, reject))
  })
  await runtime.start()
  return answered
}

// The nodes do not tell when the broker has answered CONNECT and SUBSCRIBE; the library beneath them does.
function listen(o, resolve, reject) {
  const { client } = runtime._.nodes.getNode('broker')
  let answers = (o.filters || []).length
  const answer = {}
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'connack') answer.sessionPresent = packet.sessionPresent
    if (packet.cmd === 'suback') {
      answers--
      if (packet.granted[0] !== o.qos) reject(new Error('granted ' + packet.granted))
    }
    if (answers === 0) resolve(answer)
  })
}

function publish(messages) {
  const out = runtime._.nodes.getNode('out')
  return Promise.all(messages.map((m) => new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject })
    const { topic, payload, qos, retain } = m
    out.receive({ topic, payload, qos, retain, ...toProperties(m), number })
  }))).then(() => {})
}

function toMessage(msg) {
  const m = { topic: msg.topic, payload: msg.payload, qos: msg.qos, retain: msg.retain }
  if (msg.contentType) m.contentType = msg.contentType
  if (msg.responseTopic) m.responseTopic = msg.responseTopic
  if (msg.correlationData) m.correlationData = msg.correlationData.toString()
  if (msg.payloadFormatIndicator) m.format = 1
  if (msg.messageExpiryInterval) m.expirySeconds = msg.messageExpiryInterval
  if (msg.userProperties) m.user = Object.entries(msg.userProperties)
  return m
}

serve({ connect, publish, disconnect: () => runtime.stop().then(() => {}) })
