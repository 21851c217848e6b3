// Package scale measures what a broker's work costs beside much that is idle: connections, sessions that are away,
// subscriptions, retained messages, a long log. Each test makes more and more of one of them, runs the same load beside it
// each time (test/bench, which also checks that everything arrives), and prints a table. What costs the same in every line
// does not grow with what is idle.
//
// In the ordinary tests the steps are small and only what arrives is checked; "make scale" makes the large ones, whose
// figures are in docs/PERFORMANCE.md. A figure is no verdict: no test fails for one.
package scale
