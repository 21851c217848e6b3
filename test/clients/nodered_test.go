package clients

import "path/filepath"

// newNodeRED is the MQTT nodes of Node-RED, by js/nodered.js.
func newNodeRED() client {
	p := newProgram("node", filepath.Join("js", "nodered.js"))
	p.subscribesAgain = true
	return p
}

func nodeREDInstalled() error { return nodePackage("@node-red/runtime") }
