package backup

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"coffer/backup/chunk"
	"coffer/backup/pack"
)

// upstreamSizes are the sizes of the packs that a file becomes, as the storage
// sees them: its chunks under a secret, in packs of about 64 KiB, padded.
func upstreamSizes(tb testing.TB, data []byte, secret string) (sizes []int) {
	c, err := chunk.NewCutter(chunk.Params{Min: small.Min, Normal: small.Normal, Max: small.Max,
		Candidate: small.Bits[0], Short: small.Bits[1], Long: small.Bits[2]}, sha256.Sum256([]byte(secret)))
	must(tb, err)
	fill, footer := 0, 100
	for len(data) > 0 {
		n := c.Cut(data)
		data = data[n:]
		if fill > 0 && fill+footer+n > small.PackSize {
			sizes = append(sizes, pack.Padded(fill+footer))
			fill, footer = 0, 100
		}
		fill, footer = fill+n, footer+44
	}
	return append(sizes, pack.Padded(fill+footer))
}

// guess says which of the known files an observation is most like: that of the
// nearest sample, by the sum of the differences of sizes.
func guess(samples [2][][]int, seen []int) int {
	best, which := math.MaxInt, 0
	for file, list := range samples {
		for _, sample := range list {
			d := 0
			for i := range max(len(sample), len(seen)) {
				var a, b int
				if i < len(sample) {
					a = sample[i]
				}
				if i < len(seen) {
					b = seen[i]
				}
				d += max(a-b, b-a)
			}
			if d < best {
				best, which = d, file
			}
		}
	}
	return which
}

// Storage that has both of two files of one length, and has watched what they
// become under as many other keys as it likes, cannot tell from the sizes of packs
// which of them was stored. Where the secret is known it can: the test would
// notice.
func TestFingerprint(t *testing.T) {
	const samples, trials = 60, 200
	files := [2][]byte{random(1, 700_000), random(2, 700_000)}
	for _, known := range []bool{true, false} {
		secret := func(n int) string {
			if known {
				return "the same"
			}
			return fmt.Sprint(n)
		}
		var seen [2][][]int
		for file := range files {
			for i := range samples {
				seen[file] = append(seen[file], upstreamSizes(t, files[file], secret(2*i+file)))
			}
		}
		rng := rand.New(rand.NewPCG(1, 1))
		right := 0
		for i := range trials {
			file := rng.IntN(2)
			if guess(seen, upstreamSizes(t, files[file], secret(1000+i))) == file {
				right++
			}
		}
		t.Logf("secret known: %v; %d of %d right", known, right, trials)
		chance := trials/2 + 3.5*math.Sqrt(trials)/2
		if known && right < trials || !known && float64(right) > chance {
			t.Errorf("secret known: %v; %d of %d files were told by their sizes", known, right, trials)
		}
	}
}

// The borders of a file under one secret say nothing about those under another.
func TestBordersOfOtherSecrets(t *testing.T) {
	data := random(3, 1<<20)
	p := chunk.Params{Min: 64, Normal: 256, Max: 4096, Candidate: 4, Short: 5, Long: 3}
	var all [][]int
	for i := range 40 {
		c, err := chunk.NewCutter(p, sha256.Sum256(fmt.Append(nil, i)))
		must(t, err)
		var borders []int
		for at := 0; at < len(data); {
			at += c.Cut(data[at:])
			borders = append(borders, at)
		}
		all = append(all, borders[:len(borders)-1])
	}
	shared, expected := 0, 0.0
	for i, a := range all {
		for _, b := range all[:i] {
			expected += float64(len(a)) * float64(len(b)) / float64(len(data))
			for _, at := range a {
				if _, found := slices.BinarySearch(b, at); found {
					shared++
				}
			}
		}
	}
	t.Logf("%d borders are shared, %.0f by chance", shared, expected)
	if d := math.Abs(float64(shared) - expected); d > 5*math.Sqrt(expected) {
		t.Errorf("%d borders are shared, %.0f would be by chance", shared, expected)
	}
}
