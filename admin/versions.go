package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/rules"
	"tellergate/session"
	"tellergate/store"
)

func (s *Server) registerVersions() {
	path := api.ServicesPath + "/{name}/versions/{version}"
	register(s, s.conditional(takes(huma.Operation{
		OperationID: "putVersionState", Method: http.MethodPut, Path: path + "/state", Tags: []string{"services"},
		Summary:     "Put a version in another state: an edit of that one word of the rule document",
		Description: "Comments, order and spelling of the document stay.",
	}, api.MaxRequestBytes, nil)), s.putVersionState)
	register(s, huma.Operation{
		OperationID: "getDrain", Method: http.MethodGet, Path: path + "/drain", Tags: []string{"services"},
		Summary: "How far a version is from being retired",
		Description: "Keeps the counting of sessions going for some seconds: ask again every few. Safe means that two complete " +
			"counts in a row found nobody on the version, while every replica had it draining or disabled for a freshness period, " +
			"had written all it knew, and had no request in flight to it.",
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.getDrain)
}

// VersionInput names a version.
type VersionInput struct {
	ServiceInput
	Version string `path:"version" doc:"name of the version"`
}

type putVersionStateInput struct {
	VersionInput
	Body api.VersionState
}

func (s *Server) putVersionState(ctx context.Context, in *putVersionStateInput) (*changed, error) {
	return s.change(ctx, func(_ store.Revision, draft *content.State) (edit, error) {
		broken := fmt.Sprintf("version %q of service %q cannot be %s", in.Version, in.Name, in.Body.State)
		if err := knownVersion(draft.Document, in.Name, in.Version); err != nil {
			return edit{}, err
		}
		text, err := rules.SetState(draft.Text, draft.Document, in.Name, in.Version, in.Body.State)
		if err != nil {
			return edit{}, refused(broken, err)
		}
		document, err := rules.Parse(text)
		if err != nil {
			return edit{}, refused(broken, err)
		}
		draft.Document, draft.Text = document, text
		return edit{set: map[string][]byte{content.RulesPart: text}, broken: broken}, nil
	})
}

// knownVersion is 404 for what the document does not have.
func knownVersion(document *rules.Document, service, version string) error {
	var services []string
	for _, s := range document.Services {
		if s.Name != service {
			services = append(services, s.Name)
			continue
		}
		for _, v := range s.Versions {
			if v.Name == version {
				return nil
			}
		}
		return fault(http.StatusNotFound, fmt.Sprintf("service %q has no version %q; %s lists them", service, version,
			api.ServicePath(service)))
	}
	return noService(service, services)
}

type drain struct {
	Body api.Drain
}

func (s *Server) getDrain(_ context.Context, in *VersionInput) (*drain, error) {
	current, err := s.running()
	if err != nil {
		return nil, err
	}
	watch := s.Fleet.Watch()
	body := api.Drain{Service: in.Name, Version: in.Version, Revision: current.Revision.Seq, Replicas: s.replicasOf(&watch.Registry, watch.Now)}
	if service := serviceNamed(current, in.Name); service != nil {
		if v := service.VersionNamed(in.Version); v != nil {
			body.State = v.State()
		}
	}
	if n := len(watch.Last); n > 0 {
		last := &watch.Last[n-1]
		body.Sessions, body.Oldest = last.Of(in.Name, in.Version)
		body.Counted = last.Ended.UTC()
	}
	if watch.Running != nil {
		percent := watch.Running.Percent()
		body.Counting = &percent
	}
	if body.State == "" && body.Sessions == 0 && watch.Unknown == nil {
		// It may run elsewhere, or have sessions that nobody has counted yet; a name that nobody knows is misspelt.
		if err := knownVersion(current.State.Document, in.Name, in.Version); err != nil && !runsSomewhere(&watch.Registry, in) &&
			len(watch.Last) > 0 {
			return nil, err
		}
	}
	verdict := session.Retirement(in.Name, in.Version, &watch)
	body.Safe, body.Clean, body.Waiting = verdict.Safe, verdict.Clean, append([]string{}, verdict.Waiting...)
	if watch.Unknown != nil {
		body.Unknown, body.Sessions, body.Oldest = watch.Unknown.Error(), 0, time.Time{}
	}
	return &drain{Body: body}, nil
}

func runsSomewhere(registry *session.Registry, in *VersionInput) bool {
	for i := range registry.Replicas {
		for _, v := range registry.Replicas[i].Versions {
			if v.Service == in.Name && v.Version == in.Version {
				return true
			}
		}
	}
	return false
}
