// Package faults holds the tests that break things under load: two gateways as processes, real Redis servers, a session
// each of whose fresh decisions would differ from its pin, and beside it the same load without pins, which must change
// version or the test shows nothing. It contains no code of the product.
//
// make test runs the short form, make test-faults the long one: 2,000 sessions, outages of up to 30 s.
package faults
