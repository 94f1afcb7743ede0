package ppss

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// Share is one point of the sharing: X is the place of the node in the record
// plus 1, never 0, for at 0 lies the secret.
type Share struct {
	X byte
	Y [32]byte
}

// Split shares secret among n so that any t of the shares give it back and
// t-1 say nothing about it: byte-wise Shamir over GF(2^8) with the polynomial
// of AES. Share i has X = i+1. 1 <= t <= n <= [MaxNodes].
func Split(secret [32]byte, n, t int) ([]Share, error) {
	if t < 1 || t > n || n > MaxNodes {
		return nil, fmt.Errorf("ppss: splitting: no %d-of-%d sharing, at most %d nodes", t, n, MaxNodes)
	}
	coeffs := make([][32]byte, t)
	coeffs[0] = secret
	for i := 1; i < t; i++ {
		rand.Read(coeffs[i][:])
	}
	shares := make([]Share, n)
	for i := range shares {
		shares[i] = evalPoly(coeffs, byte(i+1))
	}
	return shares, nil
}

// evalPoly is Horner's rule on 32 polynomials at once.
func evalPoly(coeffs [][32]byte, x byte) Share {
	s := Share{X: x}
	for i := len(coeffs) - 1; i >= 0; i-- {
		for j := range s.Y {
			s.Y[j] = gfMul(s.Y[j], x) ^ coeffs[i][j]
		}
	}
	return s
}

// Combine returns the secret that shares, exactly the threshold's number of
// them, determine. Whether it is the right one only the envelope can tell.
func Combine(shares []Share) (secret [32]byte, err error) {
	return interpolate(shares, 0)
}

// interpolate returns the value at x of the polynomials of degree less than
// len(shares) that go through shares.
func interpolate(shares []Share, x byte) (y [32]byte, err error) {
	if len(shares) == 0 || len(shares) > MaxNodes {
		return y, fmt.Errorf("ppss: combining %d shares, want 1 to %d", len(shares), MaxNodes)
	}
	var seen [256]bool
	for _, s := range shares {
		if s.X == 0 || seen[s.X] {
			return y, errors.New("ppss: combining: the places of the shares must differ and not be 0")
		}
		seen[s.X] = true
	}
	for i, s := range shares {
		num, den := byte(1), byte(1)
		for j, o := range shares {
			if i != j {
				num = gfMul(num, o.X^x)
				den = gfMul(den, o.X^s.X)
			}
		}
		c := gfMul(num, gfInv(den))
		for k := range y {
			y[k] ^= gfMul(c, s.Y[k])
		}
	}
	return y, nil
}

// gfMul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, without a table or a
// branch: a cache would tell which entries a secret selects.
func gfMul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// gfInv returns a^254, the inverse of a, and 0 for 0.
func gfInv(a byte) byte {
	r := byte(1)
	for range 7 { // 254 = 2+4+8+16+32+64+128
		a = gfMul(a, a)
		r = gfMul(r, a)
	}
	return r
}
