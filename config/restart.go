package config

import (
	"fmt"
	"reflect"

	"tellergate/internal/problem"
)

// NeedsRestart returns one problem for each difference between the running and the next settings that cannot be applied
// while the process runs: listen addresses, limits of a listener, attributes and their defaults, stores, the admin API.
func NeedsRestart(running, next *Settings) problem.List {
	var list problem.List
	differ := func(path string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			list = append(list, problem.Problem{
				Path: path, Message: fmt.Sprintf("it runs with %v and the file says %v", a, b),
				Remedy: "restart tellergate to apply it, or put it back",
			})
		}
	}
	frontends := func(s *Settings) (names []string) {
		for _, f := range s.Frontends {
			names = append(names, f.Name)
		}
		return names
	}
	differ("frontends", frontends(running), frontends(next))
	if len(running.Frontends) == len(next.Frontends) {
		for i, f := range running.Frontends {
			path := "frontends[" + f.Name + "]"
			differ(path+".address", f.Address, next.Frontends[i].Address)
			differ(path+".health", f.Health, next.Frontends[i].Health)
			differ(path+".limits", f.Limits, next.Frontends[i].Limits)
		}
	}
	type declaration struct {
		Name, Within, Default string
		Claim                 bool
	}
	declarations := func(s *Settings) (out []declaration) {
		for _, a := range s.Identity {
			out = append(out, declaration{a.Name, a.Within, a.Default, a.Claim})
		}
		return out
	}
	differ("identity", declarations(running), declarations(next))
	differ("sessions", running.Sessions, next.Sessions)
	differ("rules", running.Rules, next.Rules)
	differ("admin", running.Admin, next.Admin)
	differ("accessLog.path", running.AccessLog.Path, next.AccessLog.Path)
	differ("accessLog.buffer", running.AccessLog.Buffer, next.AccessLog.Buffer)
	differ("upstream", running.Upstream, next.Upstream)
	differ("shutdown", running.Shutdown, next.Shutdown)
	differ("log", running.Log, next.Log)
	return list
}
