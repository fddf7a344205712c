package rfb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
)

// The ten vectors of the paper's appendix, and those of Wycheproof for AES-256 with a nonce of 16 bytes.
var eaxVectors = []struct{ key, nonce, ad, plain, sealed string }{
	{"233952dee4d5ed5f9b9c6d6ff80ff478", "62ec67f9c3a4a407fcb2a8c49031a8b3", "6bfb914fd07eae6b", "", "e037830e8389f27b025a2d6527e79d01"},
	{"91945d3f4dcbee0bf45ef52255f095a4", "becaf043b0a23d843194ba972c66debd", "fa3bfd4806eb53fa", "f7fb", "19dd5c4c9331049d0bdab0277408f67967e5"},
	{"01f74ad64077f2e704c0f60ada3dd523", "70c3db4f0d26368400a10ed05d2bff5e", "234a3463c1264ac6", "1a47cb4933", "d851d5bae03a59f238a23e39199dc9266626c40f80"},
	{"d07cf6cbb7f313bdde66b727afd3c5e8", "8408dfff3c1a2b1292dc199e46b7d617", "33cce2eabff5a79d", "481c9e39b1", "632a9d131ad4c168a4225d8e1ff755939974a7bede"},
	{"35b6d0580005bbc12b0587124557d2c2", "fdb6b06676eedc5c61d74276e1f8e816", "aeb96eaebe2970e9", "40d0c07da5e4", "071dfe16c675cb0677e536f73afe6a14b74ee49844dd"},
	{"bd8e6e11475e60b268784c38c62feb22", "6eac5c93072d8e8513f750935e46da1b", "d4482d1ca78dce0f", "4de3b35c3fc039245bd1fb7d", "835bb4f15d743e350e728414abb8644fd6ccb86947c5e10590210a4f"},
	{"7c77d6e813bed5ac98baa417477a2e7d", "1a8c98dcd73d38393b2bf1569deefc19", "65d2017990d62528", "8b0a79306c9ce7ed99dae4f87f8dd61636", "02083e3979da014812f59f11d52630da30137327d10649b0aa6e1c181db617d7f2"},
	{"5fff20cafab119ca2fc73549e20f5b0d", "dde59b97d722156d4d9aff2bc7559826", "54b9f04e6a09189a", "1bda122bce8a8dbaf1877d962b8592dd2d56", "2ec47b2c4954a489afc7ba4897edcdae8cc33b60450599bd02c96382902aef7f832a"},
	{"a4a4782bcffd3ec5e7ef6d8c34a56123", "b781fcf2f75fa5a8de97a9ca48e522ec", "899a175897561d7e", "6cf36720872b8513f6eab1a8a44438d5ef11", "0de18fd0fdd91e7af19f1d8ee8733938b1e8e7f6d2231618102fdb7fe55ff1991700"},
	{"8395fcf1e95bebd697bd010bc766aac3", "22e7add93cfc6393c57ec0b3c17d6b44", "126735fcc320d25a", "ca40d7446e545ffaed3bd12a740a659ffbbb3ceab7", "cb8920f87a6c75cff39627b56e3ed197c552d295a7cfc46afc253b4652b1af3795b124ab6e"},
	{"b4cd11db0b3e0b9b34eafd9fe027746976379155e76116afde1b96d21298e34f", "00c49f4ebb07393f07ebc3825f7b0830", "", "", "80d821cde2d6c523b718597b11dd0fa8"},
	{"b7797eb0c1a6089ad5452d81fdb14828c040ddc4589c32b565aad8cb4de3e4a0", "0ad570d8863918fe89124e09d125a271", "", "ed", "254fef9ec45255dbba5631105d00a55767"},
	{"4c010d9561c7234c308c01cea3040c925a9f324dc958ff904ae39b37e60e1e03", "2a55caa137c5b0b66cf3809eb8f730c4", "", "2a093c9ed72b8ff4994201e9f9e010", "cbfcaa3634d6cff5656bc6bda6ab5f0144be0643b036a8147e19f4ea9e7af2"},
	{"2f6cfb7a215a7bafb607c273f7e66f9a6d51d57f9c29422ec64699bad0c6f33b", "21cbeff0b123799da74f4daff2e279c5", "", "39dbc71f6838ed6c6e582137436e1c61bbbfb80531f4", "f531097aa1bb35d9f401d459340afbd27f9bdf72c537e4e18170dce4e1af90b15eae64355331"},
	{"7517c973a9de3614431e3198f4ddc0f8dc33862654649e9ff7838635bb278231", "42f82085c08afd5b19a9491a79cd8119", "e9ee894ad5b0781d", "d17fbed25ad5f72477580b9e82a7b883", "0b70b24253b2e1c3ef1165925b5c5e5745009a2a101877ed70e58f2e5910004f"},
	{"9f5c60fb5df5cf2b1b39254c3fa80e51d30d64e344b3aba59574305b4d2212ad", "d4df79c69f73b26a13598af07eed6a77", "813399ff1e1ef0b58bb2be130ce5d4", "a3ca2ef9bd1fdbaa83db4c7eae6de94e", "65019212ccbbd4cd2f995cc59d46fd274026c486430a1ae2a5fc4081cd665468"},
	{"38f3d880ed6cd605f2eab88027c9a1c21d13e3de1af50ac884723bcf2b70f495", "7078c9239650b8a1a8cf031d460e51c1", "d1544013b885a7083abece9e31d98ebc", "52609620d7f572aa9267565e459ae419", "91b9f4424b68b4af839ce553d10b7dbc0541b1a518f4bb585a594f3eab5535c3"},
	{"ec88cec13d8ebae7d62f60197e5486d61c33ee5a50b19f197c1348fbc9e27e8e", "1ec1d18c96ca6cad66690e60b91cf222", "d28d5811d4168a08da54b97831b59200041adb0e2891ea91", "658c6c7d8ea64a48375d69d9a405095a", "e42b53912ce21a3ee7a1fb51194d6fe32bc8cc7f42cac1a121fd9ddff4f2073c"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEAX(t *testing.T) {
	for i, v := range eaxVectors {
		e, err := newEAX(unhex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		nonce, plain, ad, want := [eaxBlock]byte(unhex(t, v.nonce)), unhex(t, v.plain), unhex(t, v.ad), unhex(t, v.sealed)
		sealed := make([]byte, len(plain)+eaxBlock)
		e.seal(sealed, plain, &nonce, ad)
		if !bytes.Equal(sealed, want) {
			t.Errorf("vector %d: %x, not %x", i, sealed, want)
		}
		copy(sealed, plain) // in place
		e.seal(sealed, sealed[:len(plain)], &nonce, ad)
		if !bytes.Equal(sealed, want) {
			t.Errorf("vector %d in place: %x, not %x", i, sealed, want)
		}
		for at := range want { // any altered byte is noticed, and nothing is decrypted then
			bad := bytes.Clone(want)
			bad[at] ^= 0x80
			if text, err := e.open(bad, &nonce, ad); !errors.Is(err, errTag) || text != nil {
				t.Errorf("vector %d, byte %d altered: %x, %v", i, at, text, err)
			}
		}
		if text, err := e.open(bytes.Clone(want), &nonce, append(ad, 0)); err == nil {
			t.Errorf("vector %d with other data beside it: %x", i, text)
		}
		nonce[0]++
		if text, err := e.open(bytes.Clone(want), &nonce, ad); err == nil {
			t.Errorf("vector %d with another nonce: %x", i, text)
		}
		nonce[0]--
		if text, err := e.open(sealed, &nonce, ad); err != nil || !bytes.Equal(text, plain) {
			t.Errorf("vector %d: opened %x, %v", i, text, err)
		}
	}
}

// The counter of counter mode has 16 bytes and wraps; the library's counter mode, for long texts, and the one for short texts agree.
func TestEAXCounter(t *testing.T) {
	e, err := newEAX(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	long, short := make([]byte, longText), make([]byte, longText-1)
	for _, ctr := range [][eaxBlock]byte{{}, {15: 0xff}, {7: 1, 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xfe},
		[eaxBlock]byte(bytes.Repeat([]byte{0xff}, eaxBlock))} {
		clear(long)
		clear(short)
		e.ctr = ctr
		e.xorKeyStream(long, long)
		e.ctr = ctr
		e.xorKeyStream(short, short)
		if !bytes.Equal(long[:len(short)], short) {
			t.Errorf("counter %x: %x, not %x", ctr, long, short)
		}
	}
}

// Texts of every length come back, also those that are longer than what OMAC takes at a time.
func TestEAXLengths(t *testing.T) {
	e, err := newEAX(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, 2*len(e.spent)+3*eaxBlock)
	for i := range plain {
		plain[i] = byte(i * 7)
	}
	for n := range plain {
		sealed := make([]byte, n+eaxBlock)
		nonce := [eaxBlock]byte{byte(n)}
		e.seal(sealed, plain[:n], &nonce, plain[:n%40])
		text, err := e.open(sealed, &nonce, plain[:n%40])
		if err != nil || !bytes.Equal(text, plain[:n]) {
			t.Fatalf("%d bytes: %x, %v", n, text, err)
		}
	}
}

func BenchmarkEAX(b *testing.B) {
	for _, bits := range []int{128, 256} {
		e, err := newEAX(make([]byte, bits/8))
		if err != nil {
			b.Fatal(err)
		}
		plain, sealed := make([]byte, 8192), make([]byte, 8192+eaxBlock)
		var nonce [eaxBlock]byte
		b.Run(fmt.Sprintf("seal/AES-%d", bits), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				e.seal(sealed, plain, &nonce, nonce[:2])
			}
		})
		b.Run(fmt.Sprintf("open/AES-%d", bits), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			buf := make([]byte, len(sealed))
			for b.Loop() {
				copy(buf, sealed)
				if _, err := e.open(buf, &nonce, nonce[:2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
