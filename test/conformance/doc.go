// Command conformance says which tests of this repository hold which clause.
//
// Three catalogues in docs/conformance list what there is to hold: the normative statements of MQTT 5.0 and of
// MQTT 3.1.1, and the hard cases that we collected ourselves. Tests cite them:
//
//	[MQTT-3.1.2-3]        a clause of MQTT 5.0
//	[3.1.1 MQTT-3.1.2-3]  a clause of MQTT 3.1.1
//	[case 36]             a hard case
//
// A citation counts for a test when it stands in the doc comment of the test function, in a comment or string inside the
// function, or in a comment of a script; and so does the clause that a test function expects an error to name. Anywhere
// else it counts for nothing, but a clause that is in no catalogue is an error wherever it stands: in tests, in the
// product's sources and in the clauses its errors name.
//
//	go run ./test/conformance          writes docs/CONFORMANCE.md and prints the counts
//	go run ./test/conformance -check   fails when docs/CONFORMANCE.md is not what would be written
//	go run ./test/conformance -break   breaks behaviours one by one, and fails when a test does not notice
package main
