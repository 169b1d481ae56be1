// Package rules decides which version of a channel service a request belongs to.
//
// It is responsible for the rule document that people write, its compilation into an immutable RuleSet with every
// problem reported at once, the decision (Decide), and its explanation (Explain). It is pure: no I/O, logs, clocks,
// goroutines, and no knowledge of HTTP libraries, pods or stores. What people write (Document) and what the request
// path reads (RuleSet) are two families of types; Compile leads from the one to the other.
package rules
