// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// nameTTL is how long answers may be kept, in seconds.
const nameTTL = 5

// answerDNS answers one question (RFC 1035). A name that is not configured does not exist,
// which machines learn at once instead of waiting for a resolver that nobody runs.
func (g *Gateway) answerDNS(request []byte) ([]byte, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(request)
	if err != nil || h.Response {
		return nil, false
	}
	q, err := p.Question()
	if err != nil {
		return nil, false
	}
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, Authoritative: true,
			RecursionDesired: h.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	addresses, known := g.names[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		if q.Type == dnsmessage.TypeA && q.Class == dnsmessage.ClassINET && a.Is4() {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: nameTTL},
				Body:   &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil, false
	}
	return packed, false
}
