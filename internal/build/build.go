// Package build knows which build this is. It does nothing else.
package build

// Version is the version of this build, set by the linker: see the Makefile.
var Version = "unknown"
