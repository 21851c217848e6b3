package clients

import "path/filepath"

var nodeRED = newHost(func() []string { return []string{"node", filepath.Join("js", "nodered.js")} })

// newNodeRED is the MQTT nodes of Node-RED.
func newNodeRED() client {
	p := newProgram(nodeRED)
	p.subscribesAgain = true
	return p
}

func nodeREDInstalled() error { return nodePackage("@node-red/runtime") }
