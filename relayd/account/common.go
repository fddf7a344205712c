package account

import "strings"

// common holds what guessers try first, of those passwords that are long enough for an account, without what people
// put around them.
const common = `
1234567890 0123456789 0987654321 9876543210 1q2w3e4r5t 1q2w3e4r5t6y q1w2e3r4t5 q1w2e3r4t5y6 1qaz2wsx3edc qwertyuiop
qwertzuiop azertyuiop asdfghjkl zxcvbnm1234 qazwsxedcrfv password passw0rd p@ssw0rd p@ssword pa55word passwort
password1password letmein letmeinnow welcome welcomehome administrator administrador changeme changemenow changeit
iloveyou iloveyouforever sunshine princess football baseball basketball superman batman starwars trustno1 whatever
helmline remoteaccess computer internet samsung liverpool manchester michelle jennifer christopher butterfly
strawberry chocolate blink182 mynoob 18atcskd2w 3rjs1la7qe qwerty qwertz azerty abcdefghij abcdefghijk abc123abc123
aa12345678 google secret master dragon monkey shadow testtest testpassword mustermann geheim hallo hallohallo
correcthorsebatterystaple`

// around is what people put around a word that is too short or too common.
const around = "0123456789!?.,;:-_*#$%&+ "

// easy says whether a password, in lower case, is one that guessers try first: a common one with digits or signs
// around it, a repeated piece, or a run of neighbours.
func easy(lower string) bool {
	core := strings.Trim(lower, around)
	for _, word := range strings.Fields(common) {
		if lower == word || core == word {
			return true
		}
	}
	runs, last := 1, rune(0) // pieces in which each character is a neighbour of the one before: aaaa, 1234, dcba
	for i, c := range lower {
		if d := c - last; i > 0 && (d < -1 || d > 1) {
			runs++
		}
		last = c
	}
	return runs <= 2 || repeats(lower, 4)
}

// repeats says whether s is a piece of at most max bytes over and over again.
func repeats(s string, max int) bool {
	for n := 1; n <= max && 2*n <= len(s); n++ {
		if strings.Repeat(s[:n], len(s)/n+1)[:len(s)] == s {
			return true
		}
	}
	return false
}
