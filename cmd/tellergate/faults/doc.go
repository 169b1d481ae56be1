// Package faults holds the tests that break things under load: two gateways, real Redis servers, thousands of sessions.
// It contains no code of the product. The short form runs with every test run; the long one by make test-faults.
package faults
