// What the page does, without the page: it is given MQTT.js, the broker, and what to call when there is something to show.

export function start(mqtt, broker, show) {
  const client = mqtt.connect(broker, { protocolVersion: 5, clientId: 'page-' + Math.random().toString(36).slice(2), reconnectPeriod: 1000 })

  client.on('connect', async () => {
    try {
      await client.subscribeAsync('plant/+/temp', { qos: 1 }) // each time: this client has no session that lasts
      show.state('connected')
    } catch (err) {
      show.state('cannot subscribe: ' + err.message)
    }
  })
  client.on('close', () => show.state('not connected, trying again'))
  client.on('error', (err) => show.state(err.message))
  client.on('message', (topic, payload) => show.temperature(topic.split('/')[1], new TextDecoder().decode(payload)))

  return {
    // command resolves when the command is stored, and will reach the device.
    async command(device, name, argument) {
      await client.publishAsync(`cmd/${device}/${name}`, argument, { qos: 1 })
      show.state(`${device} will get ${name} ${argument}`)
    },
    stop: () => client.endAsync(),
  }
}
