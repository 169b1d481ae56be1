package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"tellergate/config"
	"tellergate/rules"
)

// terms is what the settings say about whom to believe and where identity stands, in the form that the request path
// reads. It is immutable; Reload replaces it whole.
type terms struct {
	frontends    []frontendTerms // in the order of the settings
	testers      *bart.Lite
	testerHeader string
	attributes   []attributeTerms // by schema index
	// claims are the names under which claims may be presented, for their removal.
	claimHeaders, claimCookies, claimQueries []string
	// protected headers carry identity: a Connection header cannot nominate them away.
	protected []string
}

type frontendTerms struct {
	identity, forwarded *bart.Lite
	bodyBytes           int64 // 0: no bound
	headerCount         int
	methods             []string // that are accepted; empty: any
}

// attributeTerms is how one attribute is found.
type attributeTerms struct {
	name     string
	sources  []sourceTerms
	within   int // schema index of the outer attribute, or -1
	outer    bool
	fallback string // the setting "default"
	claim    bool
	masked   bool
	cookies  []string // of the sources, for Set-Cookie
}

type sourceTerms struct {
	kind    config.SourceKind
	name    string
	subnets *bart.Table[string]
}

func newTerms(settings *config.Settings, schema *rules.Schema) (*terms, error) {
	t := &terms{
		testers:      prefixes(settings.Testers.From),
		testerHeader: settings.Testers.Header,
		attributes:   make([]attributeTerms, schema.Len()),
	}
	for _, f := range settings.Frontends {
		t.frontends = append(t.frontends, frontendTerms{
			identity:    prefixes(f.Trust.Identity),
			forwarded:   prefixes(f.Trust.Forwarded),
			bodyBytes:   f.Limits.BodyBytes,
			headerCount: f.Limits.HeaderCount,
			methods:     f.Methods,
		})
	}
	if len(settings.Identity) != schema.Len() {
		return nil, fmt.Errorf("the settings declare %d attributes and the rules were compiled for %d: restart to change them",
			len(settings.Identity), schema.Len())
	}
	for _, a := range settings.Identity {
		i := schema.Index(a.Name)
		if i < 0 {
			return nil, fmt.Errorf("the attribute %q is new: restart to declare it", a.Name)
		}
		t.attributes[i] = attributeTerms{
			name: a.Name, within: schema.Index(a.Within), fallback: a.Default, claim: a.Claim,
			masked: !a.Claim || slices.Contains(settings.AccessLog.Mask, a.Name),
		}
		for _, s := range a.Sources {
			t.addSource(&t.attributes[i], s)
		}
	}
	for i := range t.attributes {
		if outer := t.attributes[i].within; outer >= 0 {
			t.attributes[outer].outer = true
		}
	}
	return t, nil
}

func (t *terms) addSource(a *attributeTerms, s config.Source) {
	source := sourceTerms{kind: s.Kind, name: s.Name}
	switch s.Kind {
	case config.SourceHeader:
		t.protected = append(t.protected, s.Name)
		if a.claim {
			t.claimHeaders = append(t.claimHeaders, s.Name)
		}
	case config.SourceCookie:
		a.cookies = append(a.cookies, s.Name)
		if a.claim {
			t.claimCookies = append(t.claimCookies, s.Name)
		}
	case config.SourceQuery:
		if a.claim {
			t.claimQueries = append(t.claimQueries, s.Name)
		}
	case config.SourceSubnets:
		source.subnets = new(bart.Table[string])
		for _, subnet := range s.Subnets {
			source.subnets.Insert(subnet.Prefix, strings.TrimSpace(subnet.Value))
		}
	}
	a.sources = append(a.sources, source)
}

func prefixes(list []netip.Prefix) *bart.Lite {
	set := new(bart.Lite)
	for _, p := range list {
		set.Insert(p)
	}
	return set
}
