package chunk

import "math"

const (
	sampleBlock = 256  // bytes in one sample
	sampleMax   = 4096 // bytes in all samples
)

var log2 [sampleMax + 1]float64

func init() {
	for i := 1; i < len(log2); i++ {
		log2[i] = math.Log2(float64(i))
	}
}

// Flat reports whether data looks as if it would not compress: the entropy of
// its bytes, sampled in 16 places, is near that of random ones. What is already
// compressed or encrypted is not worth the time of a compressor.
func Flat(data []byte) bool {
	if len(data) < sampleBlock {
		return false
	}
	var count [256]uint16
	n := 0
	step := max(len(data)/(sampleMax/sampleBlock), sampleBlock)
	for off := 0; off+sampleBlock <= len(data) && n < sampleMax; off += step {
		for _, b := range data[off : off+sampleBlock] {
			count[b]++
		}
		n += sampleBlock
	}
	sum := 0.0
	for _, c := range count {
		if c > 0 {
			sum += float64(c) * log2[c]
		}
	}
	entropy := log2[n] - sum/float64(n)
	// A sample of n random bytes has about 8 - 184/n bits (Miller's bias of the
	// plug-in estimate, which grows a little below 1 KiB).
	return entropy > 8-230/float64(n)-0.1
}
