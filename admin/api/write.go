package api

import (
	"tellergate/internal/problem"
	"tellergate/rules"
)

// A WriteResult answers a change of rules, lists, organisations or overrides. The status is 200, or 202 where the
// change is stored and this replica does not run it yet (Applied is false).
type WriteResult struct {
	Revision uint64 `json:"revision" doc:"the head revision after the call; its ETag is in the header"`
	Changed  bool   `json:"changed" doc:"false: everything was so already, and no revision was made"`
	Applied  bool   `json:"applied" doc:"this replica runs the revision"`
	// NotApplied says why not, empty if Applied.
	NotApplied string            `json:"notApplied,omitempty" doc:"why the revision does not run here"`
	Warnings   []problem.Problem `json:"warnings,omitempty" doc:"legal but probably not meant; where the rules were not written, only what the call brought about"`
	Changes    []PartDiff        `json:"changes,omitempty" doc:"what the call changed"`
	// Duplicates is how many lines of a CSV occurred more than once and were merged.
	Duplicates int `json:"duplicates,omitempty" doc:"values or branches that occurred more than once and were merged"`
	// Idle is how many values of an edit were there already, or were not there to remove.
	Idle int `json:"idle,omitempty" doc:"values to add that the list had already, and to remove that it had not"`
}

// A CheckResult answers a dry run of a rule document against the head revision's lists, organisations and overrides.
type CheckResult struct {
	Revision uint64            `json:"revision" doc:"the head revision it was checked against"`
	Valid    bool              `json:"valid" doc:"there are no problems: a PUT would succeed"`
	Problems []problem.Problem `json:"problems,omitempty"`
	Warnings []problem.Problem `json:"warnings,omitempty"`
	Changes  []PartDiff        `json:"changes,omitempty" doc:"what a PUT would change; empty if there are problems"`
	// Analysis tells what is true of the rules beyond each by itself; nil if there are problems.
	Analysis *rules.Analysis `json:"analysis,omitempty" doc:"rules that never match, are shadowed or overlap, with witnesses"`
}

// A List is the JSON form of a list's content.
type List struct {
	Attribute string   `json:"attribute" doc:"whose values these are; declared in the settings"`
	Values    []string `json:"values" doc:"pairs outer/value where the attribute is declared within another"`
}

// A ListEdit adds values to a list and removes others, as one revision.
type ListEdit struct {
	Add    []string `json:"add,omitempty" doc:"pairs outer/value where the attribute is declared within another"`
	Remove []string `json:"remove,omitempty"`
}

// Lists answers GET ListsPath.
type Lists struct {
	Revision uint64     `json:"revision"`
	Lists    []ListInfo `json:"lists" doc:"in ascending order of name"`
}

// A ListInfo tells of a list without its values.
type ListInfo struct {
	Name      string   `json:"name"`
	Attribute string   `json:"attribute"`
	Values    int      `json:"values" doc:"how many"`
	UsedBy    []string `json:"usedBy" doc:"rules that use it, as service/rule"`
}

// An Organisation is the JSON form of the tree of branches of one legal entity.
type Organisation struct {
	Branches []rules.Branch `json:"branches"`
}

// Organisations answers GET OrganisationsPath.
type Organisations struct {
	Revision      uint64             `json:"revision"`
	Organisations []OrganisationInfo `json:"organisations" doc:"in ascending order of legal entity"`
}

// An OrganisationInfo tells of an organisation without its branches.
type OrganisationInfo struct {
	LegalEntity string   `json:"legalEntity"`
	Branches    int      `json:"branches" doc:"how many"`
	UsedBy      []string `json:"usedBy" doc:"rules that use it, as service/rule"`
}
