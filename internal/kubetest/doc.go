// Package kubetest holds the tests of tellergate against a real Kubernetes API server with its controllers, in a network
// namespace of its own. It has no other content; docs/kubernetes.md tells how to run them.
package kubetest
