package keyring

import (
	"regexp"
	"strings"
	"testing"

	"coffer/seal"
)

func testKey(t testing.TB) seal.Key {
	t.Helper()
	raw := make([]byte, seal.KeySize)
	for i := range raw {
		raw[i] = byte(i * 17)
	}
	k, err := seal.KeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const testDigits = `0011 2233 4455 6677
8899 aabb ccdd eeff
1021 3243 5465 7687
98a9 bacb dced fe0f`

// What is written on paper must come back, however it is typed.
func TestDigits(t *testing.T) {
	k := testKey(t)
	if got := Digits(k); !regexp.MustCompile(`^([0-9a-f]{4} ){3}[0-9a-f]{4}(\n([0-9a-f]{4} ){3}[0-9a-f]{4}){3}$`).MatchString(got) {
		t.Fatalf("got %q", got)
	}
	text := Digits(k)
	for _, tt := range []struct{ name, typed string }{
		{"as written", text},
		{"one line", strings.ReplaceAll(text, "\n", " ")},
		{"no blanks", strings.NewReplacer(" ", "", "\n", "").Replace(text)},
		{"dashes", strings.NewReplacer(" ", "-", "\n", "-").Replace(text)},
		{"long dashes", strings.NewReplacer(" ", "–", "\n", " — ").Replace(text)},
		{"upper case", strings.ToUpper(text)},
		{"windows lines", strings.ReplaceAll(text, "\n", "\r\n") + "\r\n"},
		{"letters for digits", strings.NewReplacer("0", "O", "1", "l").Replace(text)},
		{"other letters", strings.NewReplacer("0", "o", "1", "I").Replace(text)},
		{"qr text", "coffer1:" + strings.NewReplacer(" ", "", "\n", "").Replace(text)},
		{"around", "\t " + text + " \n\n"},
	} {
		if got, err := ParseDigits(tt.typed); err != nil || !got.Equal(k) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for i := range Groups {
		if !strings.Contains(text, Group(k, i)) || len(Group(k, i)) != 4 {
			t.Errorf("group %d is %q", i, Group(k, i))
		}
	}
}

func TestParseDigitsRefuses(t *testing.T) {
	text := Digits(testKey(t))
	for _, tt := range []struct{ typed, say string }{
		{"", "0 digits"},
		{text[:len(text)-1], "63 digits"},
		{text + "a", "65 digits"},
		{strings.Replace(text, "2233", "2x33", 1), `group 2: 'x'`},
		{text + "\x00", `group 17`},
		{strings.Repeat("0", 2000), "2000 characters"},
		{"ｆ" + text[1:], "group 1"},
	} {
		_, err := ParseDigits(tt.typed)
		if err == nil || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%.20q: got %v, want %s", tt.typed, err, tt.say)
		}
		if err != nil && strings.Contains(err.Error(), "8899") {
			t.Errorf("the error repeats the digits: %v", err)
		}
	}
}

// What parses is one key, and writing it down again parses to the same.
func FuzzParseDigits(f *testing.F) {
	f.Add(testDigits)
	f.Add("COFFER1:" + strings.Repeat("0", 64))
	f.Add(strings.Repeat("O", 64))
	f.Add("x")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseDigits(s)
		if err != nil {
			return
		}
		again, err := ParseDigits(Digits(k))
		if err != nil || !again.Equal(k) {
			t.Errorf("%q: %v", s, err)
		}
		if len(strings.TrimSpace(s)) < digitCount {
			t.Errorf("%q has too few digits", s)
		}
	})
}
