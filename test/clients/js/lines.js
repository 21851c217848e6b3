// The line protocol between the tests and a client program: see program_test.go.
'use strict'

const readline = require('node:readline')

const write = (line) => process.stdout.write(JSON.stringify(line) + '\n')

// Answers each command with what its handler returns; handlers are asynchronous, and run one after another.
function serve(handlers) {
  let last = Promise.resolve()
  readline.createInterface({ input: process.stdin }).on('line', (text) => {
    const command = JSON.parse(text)
    last = last.then(async () => {
      try {
        write({ answer: (await handlers[command.do](command.options || command.messages)) || {} })
      } catch (err) {
        write({ error: String(err.stack || err) })
      }
    })
  })
}

// The properties of a message, or of a will, as MQTT.js takes them.
function toProperties(m) {
  const properties = {}
  if (m.contentType) properties.contentType = m.contentType
  if (m.responseTopic) properties.responseTopic = m.responseTopic
  if (m.correlationData) properties.correlationData = Buffer.from(m.correlationData)
  if (m.format) properties.payloadFormatIndicator = true
  if (m.expirySeconds) properties.messageExpiryInterval = m.expirySeconds
  if (m.alias) properties.topicAlias = m.alias
  if (m.user) {
    properties.userProperties = {}
    for (const [name, value] of m.user) {
      const values = properties.userProperties[name]
      properties.userProperties[name] = values ? [].concat(values, value) : value
    }
  }
  return properties
}

// A message as the tests read it.
function toMessage(topic, payload, packet) {
  const m = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }
  const p = packet.properties || {}
  if (p.contentType) m.contentType = p.contentType
  if (p.responseTopic) m.responseTopic = p.responseTopic
  if (p.correlationData) m.correlationData = p.correlationData.toString()
  if (p.payloadFormatIndicator) m.format = 1
  if (p.messageExpiryInterval) m.expirySeconds = p.messageExpiryInterval
  if (p.subscriptionIdentifier) m.identifiers = [].concat(p.subscriptionIdentifier)
  if (p.userProperties) {
    m.user = Object.entries(p.userProperties).flatMap(([name, values]) => [].concat(values).map((value) => [name, value]))
  }
  return m
}

module.exports = { serve, write, toProperties, toMessage }
