package proxy

// checksumXML is a checksum as it stands in many bodies.
type checksumXML struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
	ChecksumSHA512    string `xml:",omitempty"`
	ChecksumMD5       string `xml:",omitempty"`
	ChecksumXXHASH64  string `xml:",omitempty"`
	ChecksumXXHASH3   string `xml:",omitempty"`
	ChecksumXXHASH128 string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

// field is where the checksum of an algorithm stands, nil for an unknown one.
func (c *checksumXML) field(a algorithm) *string {
	switch a {
	case algCRC32:
		return &c.ChecksumCRC32
	case algCRC32C:
		return &c.ChecksumCRC32C
	case algCRC64NVME:
		return &c.ChecksumCRC64NVME
	case algSHA1:
		return &c.ChecksumSHA1
	case algSHA256:
		return &c.ChecksumSHA256
	case algSHA512:
		return &c.ChecksumSHA512
	case algMD5:
		return &c.ChecksumMD5
	case algXXHash64:
		return &c.ChecksumXXHASH64
	case algXXHash3:
		return &c.ChecksumXXHASH3
	case algXXHash128:
		return &c.ChecksumXXHASH128
	}
	return nil
}

// get is what the client says by an algorithm, "" if nothing.
func (c *checksumXML) get(a algorithm) string {
	if f := c.field(a); f != nil {
		return *f
	}
	return ""
}

func newChecksumXML(a algorithm, value, kind string) checksumXML {
	c := checksumXML{ChecksumType: kind}
	if f := c.field(a); f != nil {
		*f = value
	}
	return c
}
