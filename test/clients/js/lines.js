// The line protocol between the tests and a client program: see program_test.go.
'use strict'

const readline = require('node:readline')

const write = (line) => process.stdout.write(JSON.stringify(line) + '\n')

// Makes a client for each number that the tests use, and answers each command with what its method returns. The methods
// are asynchronous; those of one client run one after another.
function serve(makeClient) {
  const clients = new Map()
  const lines = readline.createInterface({ input: process.stdin })
  lines.on('line', (text) => {
    const command = JSON.parse(text)
    const number = command.client
    if (!clients.has(number)) {
      clients.set(number, { client: makeClient((message) => write({ client: number, message })), last: Promise.resolve() })
    }
    const entry = clients.get(number)
    entry.last = entry.last.then(async () => {
      try {
        const answer = await entry.client[command.do](command.options || command.messages)
        write({ client: number, answer: answer || {} })
      } catch (err) {
        write({ client: number, error: String(err.stack || err) })
      }
    })
  })
  lines.on('close', () => process.exit(0)) // the tests have ended
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

// A message as the tests read it. Its properties have the names of MQTT.js.
function toMessage({ topic, payload, qos, retain }, p) {
  const m = { topic, payload: payload.toString(), qos, retain }
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

module.exports = { serve, toProperties, toMessage }
