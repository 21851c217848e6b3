// Runs what the page in examples/browser runs: node page.mjs DIRECTORY BROKER. The directory has mqtt.mjs and plant.mjs as they were
// served. MQTT.js finds what it asks a browser for; its timers are those of Node, which has no Worker as a browser has.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [directory, broker] = process.argv.slice(2)
const load = (file) => import(pathToFileURL(join(directory, file)))

globalThis.window = { document: {} }
globalThis.navigator ??= {}
globalThis.WebSocket = createRequire(new URL('../clients/js/', import.meta.url))('ws')

const { default: mqtt } = await load('mqtt.mjs')
const { start } = await load('plant.mjs')

const inNode = { connect: (url, options) => mqtt.connect(url, { ...options, timerVariant: 'native' }) }
const plant = start(inNode, broker, {
  state: (text) => console.log('state: ' + text),
  temperature(line, celsius) {
    console.log(`${line}: ${celsius}`)
    plant.command('dev1', 'interval', '2s')
  },
})
