// Package api holds the wire types of the admin API: the body of every request and answer, and where each is sent.
//
// It is responsible for the one description that the server (package admin), the command line and the generated
// OpenAPI document share. It holds plain data only: it opens no connection, checks nothing and decides nothing.
package api

import (
	"net/url"
	"strconv"
)

// Base is the path below which every call of the API lies.
const Base = "/api/v1"

// Paths of the calls that name nothing.
const (
	// RulesPath: GET answers the rule document, JSON by default, as it was written with Accept: application/yaml.
	// PUT takes the document as JSON or YAML, If-Match, and answers a WriteResult.
	RulesPath = Base + "/rules"
	// RulesCheckPath: POST takes a document as JSON or YAML and answers a CheckResult, 200 also where it has problems.
	RulesCheckPath = Base + "/rules/check"
	// ListsPath: GET answers Lists.
	ListsPath = Base + "/lists"
	// OrganisationsPath: GET answers Organisations.
	OrganisationsPath = Base + "/organisations"
	// RevisionsPath: GET answers Revisions; queries before (a revision, exclusive) and limit (1 to 500, default 50).
	RevisionsPath = Base + "/revisions"
	// ExplainPath: POST takes an ExplainRequest and answers an ExplainResult.
	ExplainPath = Base + "/explain"
	// ImpactPath: POST takes an ImpactRequest and answers an ImpactResult.
	ImpactPath = Base + "/rules/impact"
	// MentionsPath: GET answers Mentions; exactly one of the queries branch, teller, legalEntity (values) and list (a name),
	// and limit (1 to 10,000, default 1,000).
	MentionsPath = Base + "/mentions"
	// ServicesPath: GET answers Services.
	ServicesPath = Base + "/services"
	// SessionsPath: GET answers Sessions; queries service, version, branch, under, olderThan, after (the cursor) and limit
	// (1 to 1,000, default 100).
	SessionsPath = Base + "/sessions"
	// SessionCountsPath: GET answers SessionCounts; queries service, version, branch, under, and by, which may be branch.
	SessionCountsPath = SessionsPath + "/counts"
	// MovesPath: GET answers Moves, POST takes a MovesRequest and answers a MovesResult.
	MovesPath = SessionsPath + "/moves"
	// ReplicasPath: GET answers Replicas.
	ReplicasPath = Base + "/replicas"
	// OpenAPIPath is the OpenAPI 3.1 document without its extension, .json or .yaml.
	OpenAPIPath = Base + "/openapi"
)

// Paths on the same listener, outside Base.
const (
	HealthPath    = "/healthz" // 200 while the process lives
	ReadyPath     = "/readyz"  // 200 or 503 with Readiness
	MetricsPath   = "/metrics" // Prometheus
	ProfilingPath = "/debug/pprof/"
)

// ListPath: GET and PUT a List as JSON or CSV, PATCH a ListEdit, DELETE; writes take If-Match and answer a WriteResult.
// A PUT of CSV names the list's attribute in the query attribute.
func ListPath(name string) string { return ListsPath + "/" + url.PathEscape(name) }

// OrganisationPath: GET and PUT an Organisation as JSON or CSV, DELETE; writes take If-Match and answer a WriteResult.
func OrganisationPath(legalEntity string) string {
	return OrganisationsPath + "/" + url.PathEscape(legalEntity)
}

// RevisionPath: GET answers a Revision.
func RevisionPath(seq uint64) string { return RevisionsPath + "/" + strconv.FormatUint(seq, 10) }

// DiffPath: GET answers the Diff that leads from revision seq to revision to. Without the query, to is the head.
func DiffPath(seq, to uint64) string {
	return RevisionPath(seq) + "/diff?to=" + strconv.FormatUint(to, 10)
}

// RestorePath: POST takes a RestoreRequest and If-Match and answers a RestoreResult.
func RestorePath(seq uint64) string { return RevisionPath(seq) + "/restore" }

// ServicePath: GET answers a ServiceStatus.
func ServicePath(name string) string { return ServicesPath + "/" + url.PathEscape(name) }

// VersionStatePath: PUT takes a VersionState and If-Match and answers a WriteResult.
func VersionStatePath(service, version string) string {
	return ServicePath(service) + "/versions/" + url.PathEscape(version) + "/state"
}

// DrainPath: GET answers a Drain, and keeps the counting of sessions going for some seconds.
func DrainPath(service, version string) string {
	return ServicePath(service) + "/versions/" + url.PathEscape(version) + "/drain"
}

// ReplicaPath: DELETE forgets a replica that is dead and answers 204.
func ReplicaPath(id string) string { return ReplicasPath + "/" + url.PathEscape(id) }

// OverridePath: PUT takes a rules.Override, DELETE nothing; both answer a WriteResult and need no If-Match.
func OverridePath(service string) string { return ServicePath(service) + "/override" }

// SessionPath: DELETE ends the session and answers 204.
func SessionPath(id string) string { return SessionsPath + "/" + url.PathEscape(id) }

// MovePath: POST takes a MoveRequest and answers 204.
func MovePath(id string) string { return SessionPath(id) + "/move" }

// Headers of requests.
const (
	// AuthorHeader says who makes a change, at most 128 bytes; "anonymous" without it. It is a claim: nobody checks it
	// until the API authenticates.
	AuthorHeader = "X-Author"
	// ReasonHeader says why, percent-encoded UTF-8 (url.PathEscape), at most 1,000 bytes when decoded.
	ReasonHeader = "X-Reason"
	// IfMatchHeader carries the ETag that was read. ETag is the head revision's number in quotes, "0" for the empty
	// state; every read of rules, lists, organisations and revisions answers it, 404 included.
	IfMatchHeader = "If-Match"
	ETagHeader    = "ETag"
)

// ETag writes a head revision as the entity tag that reads answer and If-Match takes.
func ETag(head uint64) string { return `"` + strconv.FormatUint(head, 10) + `"` }

// Content types.
const (
	JSON = "application/json"
	YAML = "application/yaml"
	CSV  = "text/csv"
	// ProblemJSON is the content type of every Error.
	ProblemJSON = "application/problem+json"
)

// Limits of request bodies, in bytes.
const (
	MaxDocumentBytes     = 64 << 20
	MaxListBytes         = 64 << 20
	MaxOrganisationBytes = 64 << 20
	MaxRequestBytes      = 1 << 20 // every other call; an explain with a draft takes MaxDocumentBytes more
)
