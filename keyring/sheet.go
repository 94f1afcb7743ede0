package keyring

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"rsc.io/qr"

	"coffer/seal"
)

// Sheet is what the recovery sheet says beside the key: all that is needed on the
// day when nothing else is left.
type Sheet struct {
	Profile   Profile
	Upstreams []string // as "--upstream" takes them
	Vault     string   // name of the fleet; "" for none
	Nodes     []string // its nodes, with their addresses
	Node      string   // the address of one
	Roots     []string // its root keys, in hexadecimal
	Account   string
	Made      time.Time
}

const (
	sheetFont   = "Helvetica"
	sheetMono   = "Courier"
	qrSide      = 46.0 // mm
	sheetMargin = 20.0
	sheetWidth  = 210 - 2*sheetMargin
)

// PDF draws the sheet for key, one page of A4. It is the secret itself.
func (s Sheet) PDF(key seal.Key) ([]byte, error) {
	f := fpdf.New("P", "mm", "A4", "")
	f.SetCompression(false) // a sheet is small, and can be looked into
	f.SetCatalogSort(true)  // the same sheet has the same bytes
	f.SetCreationDate(s.Made)
	f.SetModificationDate(s.Made)
	f.SetTitle("coffer recovery sheet", false)
	f.SetMargins(sheetMargin, sheetMargin, sheetMargin)
	f.SetAutoPageBreak(true, 12)
	f.AddPage()
	f.SetFont(sheetFont, "B", 20)
	f.CellFormat(0, 10, "coffer recovery sheet", "", 1, "", false, 0, "")
	text(f, 10, fmt.Sprintf("Backups of %s, set up on %s. This sheet was made on %s.", s.Profile.Host, s.Profile.Created.Format(time.DateOnly), s.Made.Format(time.DateOnly)))
	f.Ln(2)
	f.SetFont(sheetFont, "B", 11)
	f.MultiCell(0, 5.5, "Who has this sheet can open the backups. Without it, or the password if one was set, nobody can: not the storage, not the vault, not the makers of coffer.", "", "", false)
	f.Ln(3)
	if err := s.drawKey(f, key); err != nil {
		return nil, err
	}
	for _, l := range s.lines() {
		f.SetFont(sheetFont, "B", 9)
		f.CellFormat(34, 4.6, l[0], "", 0, "", false, 0, "")
		f.SetFont(sheetMono, "", 9)
		f.MultiCell(0, 4.6, plain(l[1]), "", "L", false)
	}
	f.Ln(3)
	f.SetFont(sheetFont, "B", 9)
	f.CellFormat(0, 5, "Password, if you want to write it here:  ______________________________________________", "", 1, "", false, 0, "")
	f.Ln(3)
	f.CellFormat(0, 5, "To get everything back, on any machine with coffer:", "", 1, "", false, 0, "")
	f.SetFont(sheetMono, "", 9)
	for _, c := range s.commands() {
		f.MultiCell(0, 4.6, plain(c), "", "L", false)
	}
	f.Ln(4)
	f.SetFont(sheetFont, "B", 11)
	f.MultiCell(0, 5.5, "Never give this to anyone who asks for it. Nobody from coffer, from the storage or from the vault ever does.", "", "", false)
	var b bytes.Buffer
	if err := f.Output(&b); err != nil {
		return nil, fmt.Errorf("drawing the recovery sheet: %w", err)
	}
	return b.Bytes(), nil
}

// drawKey draws the rows of digits, with the QR code beside them.
func (s Sheet) drawKey(f *fpdf.Fpdf, key seal.Key) error {
	code, err := qr.Encode(s.QRText(key), qr.M)
	if err != nil {
		return fmt.Errorf("drawing the QR code: %w", err)
	}
	top := f.GetY()
	text(f, 9, "The key: 64 digits, 0-9 and a-f. The last digit of a row, after the dash, checks the row.")
	f.Ln(2)
	f.SetFont(sheetMono, "B", 15)
	for _, row := range Rows(key) {
		f.CellFormat(sheetWidth-qrSide-6, 9, row, "", 1, "", false, 0, "")
	}
	f.SetFillColor(0, 0, 0)
	module := qrSide / float64(code.Size)
	left := sheetMargin + sheetWidth - qrSide
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				f.Rect(left+float64(x)*module, top+8+float64(y)*module, module, module, "F")
			}
		}
	}
	f.SetY(top + 8 + qrSide + 4)
	return nil
}

// QRText is what the QR code says: coffer takes it for the digits.
func (Sheet) QRText(key seal.Key) string {
	raw := key.Bytes()
	return digitsMark + strings.ToUpper(hex.EncodeToString(raw[:]))
}

// lines are the facts of the sheet.
func (s Sheet) lines() [][2]string {
	all := [][2]string{{"Store", s.Profile.Store.String()}, {"Key id", s.Profile.KeyID}}
	for _, u := range s.Upstreams {
		all = append(all, [2]string{"Where it lies", u})
	}
	for _, m := range s.Profile.Methods {
		all = append(all, [2]string{"Kept by", strings.TrimSpace(m.Kind + " since " + m.Since.Format(time.DateOnly))})
	}
	if s.Vault != "" {
		all = append(all, [2]string{"Vault", s.Vault + ", account " + s.Account})
		for _, n := range s.Nodes {
			all = append(all, [2]string{"", n})
		}
		for _, r := range s.Roots {
			all = append(all, [2]string{"Its root key", r})
		}
	}
	return all
}

func (s Sheet) commands() []string {
	where := "WHERE"
	if len(s.Upstreams) > 0 {
		where = s.Upstreams[0]
	}
	all := []string{"coffer recover --upstream " + where}
	if s.Node != "" { // by the password: a node shows the rest
		all = append(all, fmt.Sprintf("  with the password: add --vault-fleet %s --account %s", s.Node, s.Account), "  and --vault-root with each root key")
	}
	return append(all, "coffer restore --to DIR")
}

func text(f *fpdf.Fpdf, points float64, s string) {
	f.SetFont(sheetFont, "", points)
	f.MultiCell(0, points*0.5, plain(s), "", "", false)
}

// plain keeps to what the fonts of every PDF reader have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
