package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"tellergate/internal/problem"
)

// NeedsRestart returns one problem for each difference between the running and the next settings that cannot be applied
// while the process runs. What can: trust, testers, the sources of attributes, masks, what a frontend's tls says
// and its files hold, and of its limits headerCount and bodyBytes.
func NeedsRestart(running, next *Settings) problem.List {
	var d differences
	names := func(s *Settings) (names []string) {
		for _, f := range s.Frontends {
			names = append(names, f.Name)
		}
		return names
	}
	if d.add("frontends", names(running), names(next)); len(d.list) == 0 {
		for i, f := range running.Frontends {
			d.frontend("frontends["+f.Name+"]", f, next.Frontends[i])
		}
	}
	d.identity(running.Identity, next.Identity)
	d.add("sessions", running.Sessions, next.Sessions)
	d.add("rules", running.Rules, next.Rules)
	d.kubernetes(running.Discovery.Kubernetes, next.Discovery.Kubernetes)
	d.add("admin.address", running.Admin.Address, next.Admin.Address)
	log := running.AccessLog
	log.Mask = next.AccessLog.Mask
	d.add("accessLog", log, next.AccessLog)
	d.add("upstream", running.Upstream, next.Upstream)
	d.add("shutdown", running.Shutdown, next.Shutdown)
	d.add("log", running.Log, next.Log)
	return d.list
}

// differences collects what is not the same.
type differences struct{ list problem.List }

func (d *differences) frontend(path string, running, next Frontend) {
	d.add(path+".address", running.Address, next.Address)
	d.add(path+".tls", running.TLS != nil, next.TLS != nil) // nothing of it is told: it holds keys
	d.add(path+".health", running.Health, next.Health)
	d.add(path+".defaultHost", running.DefaultHost, next.DefaultHost)
	limits := running.Limits
	limits.HeaderCount, limits.BodyBytes = next.Limits.HeaderCount, next.Limits.BodyBytes
	d.add(path+".limits", limits, next.Limits)
}

func (d *differences) identity(running, next Identity) {
	names := func(i Identity) (names []string) {
		for _, a := range i {
			names = append(names, a.Name)
		}
		return names
	}
	if !slices.Equal(names(running), names(next)) {
		d.add("identity", names(running), names(next))
		return
	}
	for i, a := range running {
		path := "identity." + a.Name
		d.add(path+".within", a.Within, next[i].Within)
		d.add(path+".default", a.Default, next[i].Default)
		d.add(path+".claim", a.Claim, next[i].Claim)
	}
}

func (d *differences) kubernetes(running, next *Kubernetes) {
	const path = "discovery.kubernetes"
	switch {
	case running != nil && next != nil:
		d.add(path, *running, *next)
	case running != nil || next != nil:
		d.add(path, running != nil, next != nil)
	}
}

// add compares two values of one type, structs field by field under the names that they have in the text.
func (d *differences) add(path string, running, next any) {
	a, b := reflect.ValueOf(running), reflect.ValueOf(next)
	if _, address := running.(netip.AddrPort); a.Kind() == reflect.Struct && !address {
		for i := range a.NumField() {
			d.add(path+"."+a.Type().Field(i).Tag.Get("yaml"), a.Field(i).Interface(), b.Field(i).Interface())
		}
		return
	}
	if reflect.DeepEqual(running, next) {
		return
	}
	verb := "%v"
	if a.Kind() == reflect.String || a.Kind() == reflect.Slice {
		verb = "%q"
	}
	d.list = append(d.list, problem.Problem{
		Path:    path,
		Message: fmt.Sprintf("it runs with "+verb+" and the settings say "+verb, running, next),
		Remedy:  "restart tellergate to apply it, or put it back",
	})
}
