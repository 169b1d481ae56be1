package rules

import (
	"net/netip"
	"time"

	"tellergate/internal/problem"
)

// Inputs is everything that a document is compiled against. Compile keeps references to the lists and organisations,
// which are immutable, and copies the rest.
type Inputs struct {
	Schema        *Schema
	Lists         map[string]*List         // by name
	Organisations map[string]*Organisation // by legal entity
	Overrides     map[string]Override      // by service
}

// A RuleSet is one compiled generation: immutable, safe for concurrent use, owning nothing that needs closing.
type RuleSet struct {
	schema   *Schema
	services []CompiledService
	matches  matchTable
	warnings problem.List
}

// Schema returns the schema the set was compiled against.
func (s *RuleSet) Schema() *Schema { return s.schema }

// Warnings returns what is legal but probably not meant: empty lists in use, rules that can never match, unused
// versions and lists, frontends this replica does not have.
func (s *RuleSet) Warnings() problem.List { return s.warnings }

// Len returns the number of services.
func (s *RuleSet) Len() int { return len(s.services) }

// Service returns service i in the order of the document; the pointer is stable for the life of the set.
func (s *RuleSet) Service(i int) *CompiledService { return &s.services[i] }

// A CompiledService is one service of a RuleSet.
type CompiledService struct {
	index        int
	name         string
	versions     []CompiledVersion
	byDefault    *CompiledVersion
	sessions     *CompiledSessions
	serialHeader string
	override     *Override
	overrideTo   *CompiledVersion // nil without override
	rules        ruleTable
}

// Index returns the service's position in its RuleSet.
func (s *CompiledService) Index() int { return s.index }

// Name returns the service's name.
func (s *CompiledService) Name() string { return s.name }

// Len returns the number of versions.
func (s *CompiledService) Len() int { return len(s.versions) }

// Version returns version i in the order of the document.
func (s *CompiledService) Version(i int) *CompiledVersion { return &s.versions[i] }

// VersionNamed returns the named version, or nil.
func (s *CompiledService) VersionNamed(name string) *CompiledVersion {
	for i := range s.versions {
		if s.versions[i].name == name {
			return &s.versions[i]
		}
	}
	return nil
}

// Sessions returns how the service pins, nil if it does not.
func (s *CompiledService) Sessions() *CompiledSessions { return s.sessions }

// SerialHeader returns the header whose presence proves that a request may be sent again, "" if there is none.
func (s *CompiledService) SerialHeader() string { return s.serialHeader }

// Override returns the override in force, nil if there is none. It must not be modified.
func (s *CompiledService) Override() *Override { return s.override }

// A CompiledVersion is one version of a CompiledService.
type CompiledVersion struct {
	index int
	name  string
	state string
	addrs []netip.AddrPort
	kube  *KubernetesPods
	// chain is what replaces the version where it may not take a session, in order: its fallback, that one's and so on,
	// and at last the service's default. It does not hold the version itself, and nothing twice.
	chain []*CompiledVersion
}

// Index returns the version's position in its service.
func (v *CompiledVersion) Index() int { return v.index }

// Name returns the version's name.
func (v *CompiledVersion) Name() string { return v.name }

// State returns StateActive, StateDraining or StateDisabled.
func (v *CompiledVersion) State() string { return v.state }

// Static returns the static addresses in ascending order, nil if pods are found through Kubernetes. They must not be modified.
func (v *CompiledVersion) Static() []netip.AddrPort { return v.addrs }

// Kubernetes returns the Kubernetes selection, nil if the pods are static. It must not be modified.
func (v *CompiledVersion) Kubernetes() *KubernetesPods { return v.kube }

// CompiledSessions is how a service pins.
type CompiledSessions struct {
	Key            []int // attribute indexes, at least one
	Subject        int   // attribute index or -1
	Branch         int   // index of the attribute branch or -1; for the drain ledger
	Idle, Absolute time.Duration
	FallbackPinned bool
	EndPaths       []string
}

// EndsAt reports whether path is one whose successful answer ends the session.
func (c *CompiledSessions) EndsAt(path string) bool {
	for _, end := range c.EndPaths {
		if pathHasPrefix(path, end) {
			return true
		}
	}
	return false
}
