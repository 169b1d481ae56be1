package rules

import (
	"net/netip"
	"slices"
)

// implies reports whether a request that meets b meets a for certain. False means that it is not known.
func implies(b, a condition) bool {
	if a == nil || b != nil && sameCondition(a, b) {
		return true
	}
	switch a := a.(type) {
	case *allOf:
		return !slices.ContainsFunc(a.parts, func(part condition) bool { return !implies(b, part) })
	}
	switch b := b.(type) {
	case nil:
		return false
	case anyOf:
		return !slices.ContainsFunc(b, func(part condition) bool { return !implies(part, a) })
	case *allOf:
		if slices.ContainsFunc(b.parts, func(part condition) bool { return implies(part, a) }) || tested(b.parts, a) {
			return true
		}
	}
	switch a := a.(type) {
	case anyOf:
		return slices.ContainsFunc(a, func(part condition) bool { return implies(b, part) })
	case notOf:
		if b, ok := b.(notOf); ok {
			return implies(a.inner, b.inner)
		}
	}
	switch b.(type) {
	case *allOf, notOf:
		return false
	}
	return tested([]condition{b}, a) || contains(a, b)
}

// sameCondition compares conditions that an interner has made one where they are equal.
func sameCondition(a, b condition) bool {
	switch a := a.(type) {
	case anyOf:
		b, ok := b.(anyOf)
		return ok && slices.EqualFunc(a, b, sameCondition)
	case notOf:
		b, ok := b.(notOf)
		return ok && sameCondition(a.inner, b.inner)
	}
	if _, isAny := b.(anyOf); isAny {
		return false
	}
	if _, isNot := b.(notOf); isNot {
		return false
	}
	return a == b
}

// maxImplied is how many values are tried to see that each of them meets a condition.
const maxImplied = 1_000

// tested reports whether parts, all of which hold, leave what a looks at only values that meet it.
func tested(parts []condition, a condition) bool {
	about := topicOf(a)
	if about.kind == manyTopics {
		return false
	}
	for _, part := range parts {
		if topicOf(part) != about {
			continue
		}
		values, n := possible(part)
		if values == nil || n > maxImplied {
			continue
		}
		all := true
		for value := range values {
			q := about.query(value)
			if a.holds(q) {
				continue
			}
			// A value that another part excludes does not count.
			if !slices.ContainsFunc(parts, func(other condition) bool { return topicOf(other) == about && !other.holds(q) }) {
				all = false
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

// contains reports whether everything that meets the single test b meets the single test a, for tests that leave many
// values.
func contains(a, b condition) bool {
	switch a := a.(type) {
	case *attributePresent:
		about := topicOf(b)
		if about != a.topic() || !a.want {
			return false
		}
		p, isPresence := b.(*attributePresent)
		return !isPresence || p.want
	case *attributeUnder:
		b, ok := b.(*attributeUnder)
		return ok && a.entity == b.entity && a.lo <= b.lo && b.hi <= a.hi
	case *attributePrefix:
		switch b := b.(type) {
		case *attributePrefix:
			return a.index == b.index && len(b.prefix) >= len(a.prefix) && b.prefix[:len(a.prefix)] == a.prefix
		case *attributeUnder:
			return a.index == b.index && a.prefix == b.entity+"/"
		}
	case *bucketBelow:
		b, ok := b.(*bucketBelow)
		return ok && a.draw.salt == b.draw.salt && a.below >= b.below &&
			slices.EqualFunc(a.draw.by, b.draw.by, func(x, y drawAttribute) bool { return x.index == y.index })
	case *pathUnder:
		b, ok := b.(*pathUnder)
		return ok && pathHasPrefix(b.prefix, a.prefix)
	case *sourceIn:
		b, ok := b.(*sourceIn)
		if !ok {
			return false
		}
		for _, inner := range b.prefixes {
			if !slices.ContainsFunc(a.prefixes, func(outer netip.Prefix) bool {
				return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
			}) {
				return false
			}
		}
		return true
	case *headerIn:
		b, ok := b.(*headerIn)
		return ok && a.headerRef == b.headerRef &&
			!slices.ContainsFunc(b.values, func(value string) bool { return !slices.Contains(a.values, value) })
	case *headerPresent:
		if !a.want {
			return false
		}
		switch b := b.(type) {
		case *headerIn:
			return a.headerRef == b.headerRef
		case *headerMatches:
			return a.headerRef == b.headerRef
		}
	}
	return false
}
