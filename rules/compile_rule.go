package rules

import (
	"cmp"
	"slices"
)

func (c *compiler) rules(at string, from []Rule, to *CompiledService) {
	ruleNames := make([]string, len(from))
	for i := range from {
		ruleNames[i] = from[i].Name
	}
	labels := c.names(at, "rule", ruleNames)
	byPriority := make(map[int]string, len(from))
	ordered := make([]compiledRule, len(from))
	for i := range from {
		rule, place := &from[i], element(at, labels[i])
		if before, taken := byPriority[rule.Priority]; taken {
			c.fault(place+".priority", "give each rule of a service a priority of its own, higher ones are tried first",
				"rules %q and %q both have priority %d", before, rule.Name, rule.Priority)
		} else {
			byPriority[rule.Priority] = rule.Name
		}
		ordered[i] = compiledRule{name: rule.Name, priority: rule.Priority, at: place}
		if rule.When != nil {
			ordered[i].when = c.condition(place+".when", rule.When)
		}
		ordered[i].then = c.outcome(place+".then", &rule.Then, to)
	}
	slices.SortStableFunc(ordered, func(a, b compiledRule) int { return cmp.Compare(b.priority, a.priority) })
	to.rules = ruleTable{ordered: ordered}
}

// index builds the index of a service whose rules have no problems, or notes that too many cannot be looked up.
func (c *compiler) index(of *CompiledService) {
	x := newIndexer(of.rules.ordered)
	if n := len(x.scanned); n > maxScanned {
		for _, rank := range x.scanned {
			rule := &of.rules.ordered[rank]
			at := rule.at
			if rule.when != nil {
				at += ".when"
			}
			c.fault(at, "add one of them, or join rules by any",
				"rule %q holds no is, in, inList or under outside a not, so every request has to try it; service %q has %d such "+
					"rules, and at most %d are taken", rule.name, of.name, n, maxScanned)
		}
		return
	}
	of.rules.index = x.finish(c.in.Schema)
}

func (c *compiler) outcome(at string, from *Outcome, to *CompiledService) outcome {
	switch {
	case from.Version != "" && from.Split != nil:
		c.fault(at, "keep one of them", "the outcome is both a version and a split")
	case from.Split != nil:
		return c.split(at, from, to)
	case from.Version == "":
		c.fault(at, "name a version, or write a split", "the rule does not say where its requests go")
	default:
		if from.By != nil {
			c.fault(at+".by", "remove it, or write a split", "by belongs to a split")
		}
		if from.Salt != "" {
			c.fault(at+".salt", "remove it, or write a split", "salt belongs to a split")
		}
		return outcome{stable: c.version(at+".version", from.Version, to)}
	}
	return outcome{}
}

func (c *compiler) split(at string, from *Outcome, to *CompiledService) outcome {
	place := at + ".split"
	if len(from.Split) < 2 || len(from.Split) > 3 {
		c.fault(place, "write two or three versions, the stable one first", "the split has %s",
			counted(len(from.Split), "version"))
	}
	versions := make([]*CompiledVersion, len(from.Split))
	sum, negative := 0, false
	for i, share := range from.Split {
		entry := element(place, i)
		versions[i] = c.version(entry+".version", share.Version, to)
		if versions[i] != nil && slices.Contains(versions[:i], versions[i]) {
			c.fault(entry+".version", "write each version once", "version %q occurs twice in the split", share.Version)
		}
		if share.Weight < 0 || share.Weight > Buckets {
			negative = true
			c.fault(entry+".weight", "write a number from 0 to 10000, where 10000 is everybody", "%d is not a weight",
				share.Weight)
		}
		sum += share.Weight
	}
	if !negative && sum != Buckets && len(from.Split) > 0 {
		c.fault(place, "make them 10000 in all: 100 is one per cent", "the weights sum to %d", sum)
	}
	drawn := c.draw(at, from.By, from.Salt)
	if len(versions) < 2 || len(versions) > 3 {
		return outcome{}
	}
	s := &split{draw: drawn, second: versions[1], secondEnd: from.Split[1].Weight, thirdBegin: Buckets}
	if len(versions) == 3 {
		s.third, s.thirdBegin = versions[2], Buckets-from.Split[2].Weight
	}
	return outcome{stable: versions[0], split: s}
}

// draw compiles the by and the salt that stand side by side at a path.
func (c *compiler) draw(at string, by []string, salt string) draw {
	if trimValue(salt) == "" || trimValue(salt) != salt {
		c.fault(at+".salt", "write any text and keep it for as long as the same people are to be meant",
			"%q cannot be the salt", salt)
	}
	d := draw{salt: salt}
	for _, index := range c.attributes(at+".by", by, "say whose value is drawn by, for example [teller, branch]") {
		a := c.in.Schema.Attribute(index)
		d.by = append(d.by, drawAttribute{
			attributeRef: attributeRef{index: index, name: a.Name},
			pair:         a.Within != "",
			prefix:       bucketPrefix(salt, a.Name),
		})
	}
	return d
}
