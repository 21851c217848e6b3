// Command browser serves a page that is an MQTT client: it connects to Dunlin by WebSocket, shows temperatures as they come, and
// sends commands.
//
// The page needs the bundle of MQTT.js for browsers, from npm; the repository has it for its tests once
// "npm ci --prefix test/clients/js" has run.
package main

import (
	"embed"
	"flag"
	"io/fs"
	"log"
	"net/http"
	"os"
)

//go:embed static
var files embed.FS

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "where browsers find the page")
	bundle := flag.String("mqttjs", "test/clients/js/node_modules/mqtt/dist/mqtt.esm.js", "the bundle of MQTT.js")
	flag.Parse()
	if _, err := os.Stat(*bundle); err != nil {
		log.Fatalf("%v: run npm ci --prefix test/clients/js, or name another with -mqttjs", err)
	}
	static, err := fs.Sub(files, "static")
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", http.FileServerFS(static))
	http.HandleFunc("/mqtt.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, *bundle) })
	log.Printf("open http://%s", *listen)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
