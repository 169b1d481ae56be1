// Package faults holds the tests that break things under load: two gateways, real Redis servers, thousands of sessions.
// It contains no code of the product. They take minutes and both cores, so only make test-faults runs them.
package faults
