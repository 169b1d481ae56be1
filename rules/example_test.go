package rules_test

import (
	"fmt"

	"tellergate/rules"
)

// A document is parsed, compiled against what the settings declare, and decides.
func Example() {
	document, err := rules.Parse([]byte(`
services:
  - name: counter
    default: v1
    versions:
      - {name: v1, pods: {static: ["10.2.0.5:8080"]}}
      - {name: v2, pods: {static: ["10.2.0.7:8080"]}, fallback: v1}
    rules:
      - name: pilot
        priority: 200
        when: {attribute: teller, inList: pilot-tellers}
        then: {version: v2}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	schema := rules.NewSchema([]rules.Attribute{
		{Name: "legalEntity", Claim: true},
		{Name: "teller", Within: "legalEntity", Claim: true},
	}, []string{"counter"}, false)
	set, err := rules.Compile(document, rules.Inputs{
		Schema: schema,
		Lists:  map[string]*rules.List{"pilot-tellers": rules.NewList("teller", []string{"9001/0001"})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	query := &rules.Query{Method: "GET", Path: "/loan", Attributes: []string{"9001", "9001/0001"}}
	explanation := set.Match(query).Explain(query, rules.Standing{}, nil)
	fmt.Println(explanation.Version, "by", explanation.Reason, explanation.Rule)
	fmt.Println(explanation.Rules[0].Conditions.Text)
	// Output:
	// v2 by rule pilot
	// teller 9001/0001 is in list pilot-tellers
}
