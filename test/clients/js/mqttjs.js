// MQTT.js as a client under test.
'use strict'

const mqtt = require('mqtt')
const { serve, toProperties, toMessage } = require('./lines')

function connectOptions(o) {
  const options = {
    clientId: o.id,
    protocolVersion: o.version,
    protocolId: o.version === 3 ? 'MQIsdp' : 'MQTT',
    clean: !o.persistent,
    reconnectPeriod: 50,
    resubscribe: false, // the session has the subscriptions
  }
  if (o.version === 5) {
    options.properties = { topicAliasMaximum: o.aliases }
    if (o.persistent) options.properties.sessionExpiryInterval = 3600
  }
  if (o.will) {
    const { topic, payload, qos, retain } = o.will
    options.will = { topic, payload, qos, retain }
    if (o.version === 5) options.will.properties = toProperties(o.will)
  }
  return options
}

serve((arrived) => {
  let client
  let version
  let aliased // the topic of each alias

  async function connect(o) {
    version = o.version
    aliased = {}
    client = mqtt.connect(o.url, connectOptions(o))
    client.on('message', (topic, payload, packet) => arrived(toMessage({ ...packet, topic, payload }, packet.properties || {})))
    client.on('error', () => {}) // the broker is away, and the library tries again; a test that waits in vain says so
    const { sessionPresent } = await new Promise((resolve) => client.once('connect', resolve))
    if (o.filters) {
      const subscription = { qos: o.qos }
      if (o.identifier) subscription.properties = { subscriptionIdentifier: o.identifier }
      const granted = await client.subscribeAsync(o.filters, subscription)
      if (granted.some((g) => g.qos !== o.qos)) throw new Error('granted ' + JSON.stringify(granted))
    }
    return { sessionPresent }
  }

  // The publishes start in order, and overlap.
  async function publish(messages) {
    await Promise.all(messages.map((m) => {
      const options = { qos: m.qos, retain: m.retain }
      if (version === 5) options.properties = toProperties(m)
      const topic = m.alias && aliased[m.alias] === m.topic ? '' : m.topic
      if (m.alias) aliased[m.alias] = m.topic
      return client.publishAsync(topic, m.payload, options)
    }))
  }

  return {
    connect,
    publish,
    send: async (messages) => { publish(messages).catch(() => {}) }, // what does not arrive is missed elsewhere
    disconnect: () => client.endAsync().then(() => {}),
    abandon: () => client.endAsync(true).then(() => {}),
  }
})
