package rules

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// shares returns a rule that splits by teller; its weights are those of v1, v2 and, if there is a third, v4.
func shares(name, salt string, weights ...int) Rule {
	rule := Rule{Name: name, Then: Outcome{By: []string{"teller", "branch"}, Salt: salt}}
	for i, weight := range weights {
		rule.Then.Split = append(rule.Then.Split, Share{Version: []string{"v1", "v2", "v4"}[i], Weight: weight})
	}
	return rule
}

func tellerQuery(i int) *Query {
	return &Query{Path: "/", Attributes: []string{"9001", "", fmt.Sprintf("9001/%04d", i), "", ""}}
}

// assigned returns the version of each of the tellers 0 to n-1.
func assigned(t *testing.T, n int, rule Rule) []string {
	t.Helper()
	service := compiled(t, counter(rule), testInputs(t)).Service(0)
	versions := make([]string, n)
	for i := range versions {
		versions[i] = service.Decide(tellerQuery(i), Standing{}, nil).Version.Name()
	}
	return versions
}

func count(versions []string, name string) (n int) {
	for _, v := range versions {
		if v == name {
			n++
		}
	}
	return n
}

func TestSplitOfAThousandTellers(t *testing.T) {
	t.Parallel()
	at30 := assigned(t, 1000, shares("canary", "loan", 7000, 3000))
	require.InDelta(t, 300, count(at30, "v2"), 58, "30 %% of 1,000, four standard deviations")
	require.Equal(t, at30, assigned(t, 1000, shares("canary", "loan", 7000, 3000)), "same inputs, same answer")

	at50 := assigned(t, 1000, shares("canary", "loan", 5000, 5000))
	moved := 0
	for i := range at30 {
		if at30[i] == "v2" {
			require.Equal(t, "v2", at50[i], "raising the weight moves nobody back")
		} else if at50[i] == "v2" {
			moved++
		}
	}
	require.InDelta(t, 200, moved, 51)
}

func TestSplitIsDrawnBySaltAlone(t *testing.T) {
	t.Parallel()
	before := assigned(t, 1000, shares("canary", "loan", 7000, 3000))
	require.Equal(t, before, assigned(t, 1000, shares("renamed", "loan", 7000, 3000)))
	require.NotEqual(t, before, assigned(t, 1000, shares("canary", "deposit", 7000, 3000)))

	d := counter(shares("canary", "loan", 7000, 3000))
	other := counter(shares("other", "loan", 7000, 3000)).Services[0]
	other.Name, other.Match.PathPrefix = "mobile", "/mobile"
	d.Services = append(d.Services, other)
	set := compiled(t, d, testInputs(t))
	for i := range 1000 {
		require.Equal(t, set.Service(0).Decide(tellerQuery(i), Standing{}, nil).Version.Name(),
			set.Service(1).Decide(tellerQuery(i), Standing{}, nil).Version.Name())
	}
}

func TestSplitWeightsMoveOnlyToAndFromTheStableVersion(t *testing.T) {
	t.Parallel()
	const tellers = 5000
	base := assigned(t, tellers, shares("canary", "loan", 6000, 2500, 1500))
	tests := []struct {
		name    string
		weights []int
		changed string
	}{
		{"second grows", []int{4500, 4000, 1500}, "v2"},
		{"second shrinks to nothing", []int{8500, 0, 1500}, "v2"},
		{"third grows", []int{3500, 2500, 4000}, "v4"},
		{"third shrinks to nothing", []int{7500, 2500, 0}, "v4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			moved := 0
			for i, version := range assigned(t, tellers, shares("canary", "loan", test.weights...)) {
				if version == base[i] {
					continue
				}
				moved++
				require.ElementsMatch(t, []string{"v1", test.changed}, []string{base[i], version})
			}
			require.NotZero(t, moved)
		})
	}
}

func TestSplitIntervals(t *testing.T) {
	t.Parallel()
	weights := []int{6000, 2500, 1500}
	service := compiled(t, counter(shares("canary", "loan", weights...)), testInputs(t)).Service(0)
	for i := range 2000 {
		d := service.Decide(tellerQuery(i), Standing{}, nil)
		_, bucket := plainBucket("loan", "teller", "9001", fmt.Sprintf("%04d", i))
		want := "v1"
		if bucket < 2500 {
			want = "v2"
		} else if bucket >= 8500 {
			want = "v4"
		}
		require.Equal(t, bucket, d.Bucket)
		require.Equal(t, want, d.Version.Name())
	}
}

func TestSplitWithoutItsAttributes(t *testing.T) {
	t.Parallel()
	service := compiled(t, counter(shares("canary", "loan", 0, 10000)), testInputs(t)).Service(0)

	d := service.Decide(&Query{Path: "/", Attributes: make([]string, 5)}, Standing{}, nil)
	require.Equal(t, "v1", d.Version.Name(), "the stable version, although its weight is 0")
	require.Equal(t, -1, d.Bucket)

	d = service.Decide(&Query{Path: "/", Attributes: []string{"9001", "9001/3201", "", "", ""}}, Standing{}, nil)
	require.Equal(t, "v2", d.Version.Name())
	require.Equal(t, BucketOf("loan", "branch", "9001", "3201"), d.Bucket, "the next of by")
}

// TestBoundsAreHalfOpen moves each bound past the published bucket 7898 of teller 9001/0001.
func TestBoundsAreHalfOpen(t *testing.T) {
	t.Parallel()
	below := func(n int) Rule {
		return Rule{Name: "below", Then: Outcome{Version: "v2"},
			When: &Condition{Bucket: &Bucket{By: []string{"teller"}, Below: n, Salt: "loan-2026-11"}}}
	}
	tests := []struct {
		name string
		rule Rule
		want string
	}{
		{"second ends at it", shares("canary", "loan-2026-11", 2102, 7898), "v1"},
		{"second ends behind it", shares("canary", "loan-2026-11", 2101, 7899), "v2"},
		{"third begins at it", shares("canary", "loan-2026-11", 7898, 0, 2102), "v4"},
		{"third begins behind it", shares("canary", "loan-2026-11", 7899, 0, 2101), "v1"},
		{"below ends at it", below(7898), "v1"},
		{"below ends behind it", below(7899), "v2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, assigned(t, 2, test.rule)[1])
		})
	}
}
