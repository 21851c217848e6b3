// Node-RED's MQTT nodes as a client under test: the runtime without its editor, and for each client a flow of the nodes
//
//   (commands) -> mqtt out      mqtt in, one for each filter -> function (arrived)
//                 complete -> function (acknowledged)      catch -> function (failed)
//
// which share one mqtt-broker node. It subscribes each time it connects, as Node-RED always does.
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { setImmediate } = require('node:timers/promises')
const runtime = require('@node-red/runtime')
const util = require('@node-red/util')
const { serve, toProperties, toMessage } = require('./lines')

const coreNodesDir = path.dirname(require.resolve('@node-red/nodes/package.json'))

// Only the nodes of the flow are loaded: the others take a second.
const wanted = ['10-mqtt.js', '10-function.js', '24-complete.js', '25-catch.js']
const nodesExcludes = fs.readdirSync(path.join(coreNodesDir, 'core'), { recursive: true })
  .map((file) => path.basename(file))
  .filter((file) => file.endsWith('.js') && !wanted.includes(file))

// What the function nodes call, for the client whose number is in their names.
const bridges = {}

const nothing = async () => ({})

async function start() {
  const settings = {
    coreNodesDir,
    nodesExcludes,
    userDir: __dirname,
    storageModule: {
      init: nothing,
      getFlows: async () => [],
      saveFlows: nothing,
      getCredentials: nothing,
      saveCredentials: nothing,
      getSettings: nothing,
      saveSettings: nothing,
      getSessions: nothing,
      saveSessions: nothing,
    },
    functionGlobalContext: { bridges },
    mqttReconnectTime: 50,
    telemetry: { enabled: false, updateNotification: false },
    externalModules: { autoInstall: false },
    logging: { console: { level: 'off' } },
  }
  util.init(settings)
  runtime.init(settings)
  const started = new Promise((resolve) => runtime.events.once('flows:started', resolve))
  await runtime.start()
  await started
}

function brokerNode(o) {
  const url = new URL(o.url)
  const node = {
    type: 'mqtt-broker',
    broker: url.protocol === 'ws:' ? o.url : url.hostname,
    port: url.port,
    clientid: o.id,
    protocolVersion: o.version,
    cleansession: !o.persistent,
    autoConnect: false,
    autoUnsubscribe: false, // or it unsubscribes when it is stopped
    keepalive: 60,
    sessionExpiry: o.persistent ? 3600 : 0,
  }
  if (o.will) {
    const p = toProperties(o.will)
    node.willTopic = o.will.topic
    node.willPayload = o.will.payload
    node.willQos = o.will.qos
    node.willRetain = o.will.retain
    node.willMsg = {
      contentType: p.contentType,
      respTopic: p.responseTopic,
      correl: p.correlationData,
      expiry: p.messageExpiryInterval,
      userProps: p.userProperties,
    }
  }
  return node
}

function flow(name, o) {
  const id = (what) => `${name}-${what}`
  const place = { z: name, x: 0, y: 0 } // what has no place is a configuration
  const call = (what) => ({
    ...place, id: id(what), type: 'function', func: `global.get('bridges')['${name}'].${what}(msg)`, outputs: 0, libs: [], wires: [],
  })
  const subscription = {
    ...place, type: 'mqtt in', broker: id('broker'), qos: o.qos, nl: false, rap: false, rh: 0, datatype: 'utf8', inputs: 0, wires: [[id('arrived')]],
  }
  return {
    label: name,
    configs: [{ ...brokerNode(o), id: id('broker'), z: name }],
    nodes: [
      ...(o.filters || []).map((topic, i) => ({ ...subscription, id: id('in' + i), topic })),
      { ...place, id: id('out'), type: 'mqtt out', broker: id('broker'), wires: [] },
      { ...place, id: id('complete'), type: 'complete', scope: [id('out')], wires: [[id('acknowledged')]] },
      { ...place, id: id('catch'), type: 'catch', scope: [id('out')], wires: [[id('failed')]] },
      call('arrived'),
      call('acknowledged'),
      call('failed'),
    ],
  }
}

let started
let flows = 0

serve((arrived) => {
  const waiting = new Map() // the messages on their way out, by number
  let number = 0
  let flowID
  let name

  const node = (what) => runtime._.nodes.getNode(`${name}-${what}`)

  async function connect(o) {
    started = started || start()
    await started
    name = 'flow' + ++flows
    bridges[name] = {
      arrived: (msg) => arrived(toMessage(msg, msg)),
      acknowledged: (msg) => waiting.get(msg.number)?.resolve(),
      failed: (msg) => waiting.get(msg.number)?.reject(new Error(msg.error.message)),
    }
    const added = flow(name, o)
    flowID = await runtime.flows.addFlow({ flow: added })
    while (!added.nodes.every((n) => runtime._.nodes.getNode(n.id))) await setImmediate() // they are made after the answer
    node('out').receive({ action: 'connect' })
    while (!node('broker').client) await setImmediate()
    return answers(node('broker').client, o)
  }

  // The nodes do not tell when the broker has answered CONNECT and SUBSCRIBE; the library beneath them does.
  function answers(client, o) {
    return new Promise((resolve, reject) => {
      const answer = {}
      let due = (o.filters || []).length
      client.on('packetreceive', (packet) => {
        if (packet.cmd === 'connack') answer.sessionPresent = packet.sessionPresent
        if (packet.cmd === 'suback') due--
        if (packet.cmd === 'suback' && packet.granted[0] !== o.qos) reject(new Error('granted ' + packet.granted))
        if (due === 0) resolve(answer)
      })
    })
  }

  // Gives a message to the mqtt out node, and waits until that is done with it.
  function out(msg) {
    return new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject })
      node('out').receive({ ...msg, number })
    })
  }

  async function publish(messages) {
    await Promise.all(messages.map(({ topic, payload, qos, retain, ...m }) => out({ topic, payload, qos, retain, ...toProperties(m) })))
  }

  // A flow that is deleted unsubscribes: it must be disconnected before.
  async function disconnect() {
    await out({ action: 'disconnect' })
    await runtime.flows.deleteFlow({ id: flowID })
  }

  return { connect, publish, disconnect, abandon: disconnect }
})
