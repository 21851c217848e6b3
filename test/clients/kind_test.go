package clients

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// ability is what some clients can do and others cannot.
type ability uint

// The abilities. A client that lacks one is left out of the scenarios that need it.
const (
	tellsSessionPresent ability = 1 << iota // the user learns what CONNACK says of the session
	keepsUnsent                             // keeps what is published at QoS 1 and 2 while there is no connection
	keepsOrder                              // sends what it has kept before what it is given while it connects again
	publishesOn                             // goes on when the connection is lost in the middle of publishing
	keepsReceived                           // keeps which of its messages at QoS 2 the broker has, when the connection is lost
	usesAliases                             // publishes with topic aliases
	resolvesAliases                         // understands the broker's topic aliases
	seesIdentifiers                         // asks for a subscription identifier, and shows those of a message
	speaksWebSocket                         // connects by WebSocket
	fullWills                               // gives its will all properties, and not user properties alone
	takesAnyTopic                           // hands over what comes, also what no topic filter of its own matches
	countsOnce                              // counts a message at QoS 2 that comes again once against its Receive Maximum

	anybody ability = 0
)

// kind is one of the clients under test.
type kind struct {
	name     string
	link     string
	release  func() (string, error) // that CI runs
	versions []mqttcodec.Version
	can      ability
	// user are the most demanding user properties that the client can express.
	user [][2]string
	// installed says what is missing on this machine.
	installed func() error
	// make makes a client that is not connected yet.
	make func() client
}

// User properties are a list, in which a name may come twice and anywhere [MQTT-3.1.3-10][MQTT-3.3.2-18]; some libraries
// have less to say.
var (
	userList   = [][2]string{{"b", "1"}, {"a", "2"}, {"b", "3"}, {"", "é"}, {"b", "1"}}
	userGroups = [][2]string{{"b", "1"}, {"b", "3"}, {"b", "1"}, {"a", "2"}, {"c", "é"}} // a map of names to lists
	userMap    = [][2]string{{"b", "1"}, {"a", "2"}, {"c", "é"}}                         // a map of names to values
)

var (
	version5  = []mqttcodec.Version{mqttcodec.V5}
	versions3 = []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311}
	versions  = []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5}
)

// kinds are all clients that run against the broker.
var kinds = []kind{
	{
		name: "autopaho", link: "https://github.com/eclipse/paho.golang", release: goModule("github.com/eclipse/paho.golang"),
		versions: version5, user: userList, installed: inTheModule, make: newAutopaho,
		can: takesAnyTopic | tellsSessionPresent | keepsUnsent | publishesOn | keepsOrder | keepsReceived | usesAliases | resolvesAliases | seesIdentifiers | speaksWebSocket | countsOnce,
	},
	{
		name: "paho.mqtt.golang", link: "https://github.com/eclipse/paho.mqtt.golang", release: goModule("github.com/eclipse/paho.mqtt.golang"),
		versions: versions3, installed: inTheModule, make: newPaho3,
		can: takesAnyTopic | tellsSessionPresent | keepsUnsent | publishesOn | keepsOrder | speaksWebSocket | countsOnce,
	},
	{
		name: "mosquitto", link: "https://mosquitto.org", release: debian("2.0.11"), // mosquitto_sub, _pub and _rr
		versions: versions, user: userList, installed: mosquittoInstalled, make: newMosquitto,
		can: takesAnyTopic | keepsUnsent | keepsOrder | keepsReceived | usesAliases | seesIdentifiers | fullWills,
	},
	{
		name: "MQTT.js", link: "https://github.com/mqttjs/MQTT.js", release: npmPackage("mqtt"),
		versions: versions, user: userGroups, installed: mqttjsInstalled, make: newMQTTJS,
		can: takesAnyTopic | tellsSessionPresent | keepsUnsent | publishesOn | keepsOrder | keepsReceived | usesAliases | resolvesAliases | seesIdentifiers | speaksWebSocket | fullWills | countsOnce,
	},
	{
		name: "Paho for Python", link: "https://github.com/eclipse/paho.mqtt.python", release: debian("1.6.1"),
		versions: versions, user: userList, installed: pahoPythonInstalled, make: newPahoPython,
		can: takesAnyTopic | tellsSessionPresent | keepsUnsent | publishesOn | usesAliases | seesIdentifiers | speaksWebSocket | fullWills | countsOnce,
	},
	{
		name: "Node-RED", link: "https://nodered.org", release: npmPackage("@node-red/nodes"),
		versions: versions, user: userMap, installed: nodeREDInstalled, make: newNodeRED,
		can: tellsSessionPresent | usesAliases | speaksWebSocket | countsOnce,
	},
}

// inTheModule is for the clients that go.mod brings.
func inTheModule() error { return nil }

// each runs a scenario with every client that has the ability, in every version it speaks, all against one broker.
func each(t *testing.T, need ability, only []mqttcodec.Version, scenario func(s *subject), options ...harness.Option) {
	t.Helper()
	t.Parallel()
	b := harness.Start(t, options...)
	eachKind(t, need, only, func(t *testing.T, k kind, v mqttcodec.Version) {
		t.Parallel()
		scenario(newSubject(t, b.For(t), k, v))
	})
}

// eachKind runs a test with the clients that have the ability, in the versions among only that they speak. Clients that
// are not installed are skipped.
func eachKind(t *testing.T, need ability, only []mqttcodec.Version, test func(t *testing.T, k kind, v mqttcodec.Version)) {
	t.Helper()
	for _, k := range kinds {
		for _, v := range k.versions {
			if k.can&need != need || !slices.Contains(only, v) {
				continue
			}
			t.Run(k.name+"/"+harness.VersionName(v), func(t *testing.T) {
				if err := k.installed(); err != nil {
					harness.Missing(t, fmt.Sprintf("%s: %v", k.name, err))
				}
				test(t, k, v)
			})
		}
	}
}
