package hsm

import (
	"errors"
	"slices"

	"github.com/miekg/pkcs11"
)

// errFault means that the two answers of the token do not fit the public key:
// the token computed wrongly, or not with the key that the record names.
var errFault = errors.New("hsm: the token's answers do not fit the public key")

// lostCodes say that the session, the login or the token is gone, or that a
// handle no longer means what it meant. Opening the module anew cures them.
var lostCodes = []pkcs11.Error{
	pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID, pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID,
	pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY,
	pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_OPERATION_NOT_INITIALIZED,
	0xF2, // CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: seen from SoftHSM while a token object is rewritten
}

// lost reports whether opening the module anew may cure err. SoftHSM says
// "general error" for a broken token and a bad blob alike; Evaluate tells the
// two apart by its canary before it comes here.
func lost(err error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && !errors.Is(err, ErrRecord) && (slices.Contains(lostCodes, code) || vague(err))
}

// vague reports whether err says nothing of what was wrong.
func vague(err error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && (code == pkcs11.CKR_GENERAL_ERROR || code == pkcs11.CKR_FUNCTION_FAILED)
}

// refusedPIN reports whether err must never lead to another login.
func refusedPIN(err error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && slices.Contains([]pkcs11.Error{
		pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE,
		pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED,
	}, code)
}
