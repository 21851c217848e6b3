// Package harness starts the real broker as its own process and talks to it from outside, for the black-box tests
// in test/. It knows the command line, the ports and the files of the broker, and nothing of its packages but the codec.
//
//	b := harness.Start(t)                                  // a broker on free ports, data in a temporary directory
//	c := harness.NewDevice(v, "c1").Connect(b, harness.Persistent)   // a Paho client
//	c.Subscribe("a/b", 1)
//	b.Restart(harness.Kill9, c)                            // same ports, same data
//
// Three kinds of client, each for what the others hide: Client (the Paho libraries, both versions behind one set of
// methods), Raw (single packets: identifiers, DUP, order, closing), and plain NATS (Broker.JetStream).
//
// StartCluster starts several brokers on one NATS cluster, and between them networks that can be cut.
//
// A broker that writes a panic or a data race to its log, or does not end with exit code 0 on SIGTERM, fails the test.
// DUNLIN_BINARY names a broker built beforehand; otherwise it is built once per test process, with the race detector
// when the tests have it. DUNLIN_LOGS names a directory for the whole logs of brokers and servers of tests that fail.
// REQUIRE_INTEGRATION=1 turns the skip for a missing client program into a failure.
package harness
