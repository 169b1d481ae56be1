package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/internal/live"
	"tellergate/rules"
	"tellergate/session"
	"tellergate/store"
)

func (s *Server) registerServices() {
	path := api.ServicesPath + "/{name}"
	register(s, huma.Operation{
		OperationID: "getServices", Method: http.MethodGet, Path: api.ServicesPath, Tags: []string{"services"},
		Summary: "What runs: every service with its versions, endpoints and sessions",
		Errors:  []int{http.StatusServiceUnavailable},
	}, s.getServices)
	register(s, huma.Operation{
		OperationID: "getService", Method: http.MethodGet, Path: path, Tags: []string{"services"},
		Summary: "What runs of one service", Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.getService)
	register(s, s.authored(takes(huma.Operation{
		OperationID: "putOverride", Method: http.MethodPut, Path: path + "/override", Tags: []string{"services"},
		Summary:     "The emergency lever: everybody of a service to one version, now",
		Description: "Needs no If-Match. It is no part of the rule document: applying a document does not lift it.",
	}, api.MaxRequestBytes, nil)), s.putOverride)
	register(s, s.authored(huma.Operation{
		OperationID: "deleteOverride", Method: http.MethodDelete, Path: path + "/override", Tags: []string{"services"},
		Summary: "Lift the override of a service; changed is false if there is none",
	}), s.deleteOverride)
}

type services struct {
	Body api.Services
}

func (s *Server) getServices(context.Context, *Nothing) (*services, error) {
	current, err := s.running()
	if err != nil {
		return nil, err
	}
	census := s.sessionCounts()
	body := api.Services{Revision: current.Revision.Seq, Services: []api.ServiceStatus{}}
	for i := range current.Rules.Len() {
		body.Services = append(body.Services, s.serviceStatus(current, i, census))
	}
	return &services{Body: body}, nil
}

// running returns the generation that runs here, 503 before the first.
func (s *Server) running() (*live.Generation, error) {
	current := s.Live.Current()
	if current == nil {
		return nil, fault(http.StatusServiceUnavailable, "this replica runs no revision yet; /readyz says why")
	}
	return current, nil
}

// ServiceInput names a service.
type ServiceInput struct {
	Name string `path:"name" doc:"name of the service"`
}

type service struct {
	Body api.ServiceStatus
}

func (s *Server) getService(_ context.Context, in *ServiceInput) (*service, error) {
	current, err := s.running()
	if err != nil {
		return nil, err
	}
	var known []string
	for i := range current.Rules.Len() {
		if name := current.Rules.Service(i).Name(); name != in.Name {
			known = append(known, name)
			continue
		}
		return &service{Body: s.serviceStatus(current, i, s.sessionCounts())}, nil
	}
	return nil, noService(in.Name, known)
}

// serviceStatus describes service i of what runs; the document has the services in the same order.
func (s *Server) serviceStatus(current *live.Generation, i int, census *session.Census) api.ServiceStatus {
	compiled, document := current.Rules.Service(i), current.State.Document.Services[i]
	status := api.ServiceStatus{
		Name: document.Name, Match: document.Match, Default: document.Default, Rules: len(document.Rules),
		Override: compiled.Override(), Versions: []api.VersionStatus{},
	}
	for j := range compiled.Len() {
		v := compiled.Version(j)
		endpoints := append([]api.Endpoint{}, s.Pods.Endpoints(compiled.Name(), v.Name())...)
		out := api.VersionStatus{
			Name: v.Name(), State: v.State(), Fallback: document.Versions[j].Fallback,
			Endpoints: endpoints, Usable: slices.ContainsFunc(endpoints, isUsable), SessionsUnknown: census == nil,
		}
		if census != nil {
			out.Sessions, _ = census.Of(compiled.Name(), v.Name())
			out.Counted = census.Ended.UTC()
		}
		status.Versions = append(status.Versions, out)
	}
	return status
}

// How long an overview waits for the sessions to be counted, and how old a count may be that it shows instead.
const (
	overviewPatience = 3 * time.Second
	overviewAge      = 10 * time.Minute
)

// sessionCounts returns nil where the sessions are not known now.
func (s *Server) sessionCounts() *session.Census {
	census, err := s.Fleet.Census(overviewPatience)
	if err == nil {
		return &census
	}
	var counting *session.Counting
	if !errors.As(err, &counting) {
		s.Log.Warn("sessions could not be counted", zap.Error(err))
		return nil
	}
	watch := s.Fleet.Watch()
	if n := len(watch.Last); n > 0 && watch.Unknown == nil && watch.Now.Sub(watch.Last[n-1].Ended) < overviewAge {
		return &watch.Last[n-1]
	}
	return nil
}

type overrideInput struct {
	ServiceInput
	Body rules.Override
}

func (s *Server) putOverride(ctx context.Context, in *overrideInput) (*changed, error) {
	return s.changeNow(ctx, func(_ store.Revision, draft *content.State) (edit, error) {
		broken := fmt.Sprintf("the override of service %q is refused", in.Name)
		if err := checkOverride(broken, draft.Document, in.Name, in.Body.Version); err != nil {
			return edit{}, err
		}
		draft.Overrides[in.Name] = in.Body
		return edit{
			set:    map[string][]byte{content.OverridePart(in.Name): content.EncodeOverride(in.Body)},
			broken: broken,
		}, nil
	})
}

// checkOverride says of a new override what Compile would say of one that a document collides with.
func checkOverride(broken string, document *rules.Document, service, version string) error {
	i := slices.IndexFunc(document.Services, func(s rules.Service) bool { return s.Name == service })
	if i < 0 {
		return refusedFor(broken, "service", fmt.Sprintf("there is no service %q", service), api.ServicesPath+" lists them")
	}
	remedy := "name an active version; " + api.ServicePath(service) + " lists them"
	versions := document.Services[i].Versions
	j := slices.IndexFunc(versions, func(v rules.Version) bool { return v.Name == version })
	if j < 0 {
		return refusedFor(broken, "version", fmt.Sprintf("service %q has no version %q", service, version), remedy)
	}
	if state := versions[j].State; state != "" && state != rules.StateActive {
		return refusedFor(broken, "version", fmt.Sprintf("version %q of service %q is %s", version, service, state), remedy)
	}
	return nil
}

func (s *Server) deleteOverride(ctx context.Context, in *ServiceInput) (*changed, error) {
	return s.changeNow(ctx, func(_ store.Revision, draft *content.State) (edit, error) {
		delete(draft.Overrides, in.Name)
		return edit{
			remove: []string{content.OverridePart(in.Name)},
			broken: fmt.Sprintf("the rules do not compile without the override of service %q", in.Name),
		}, nil
	})
}
