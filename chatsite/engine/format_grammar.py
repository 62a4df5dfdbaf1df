"""GBNF of the formats of texts that JSON schemas may ask for."""

from __future__ import annotations

from typing import Final

# RFC 3339 and its appendix A, RFC 1123, 4122, 4291 and 3986, each as far as a model needs it:
# all that may be written is valid, not all that is valid may be written.
RULES: Final = r"""
date ::= [0-9]{4} "-" ( "0" [13578] "-" day31 | "1" [02] "-" day31 | "0" [469] "-" day30 | "11-" day30 | "02-" day28 ) | leap "-02-29"
leap ::= [0-9]{2} ( "0" [48] | [2468] [048] | [13579] [26] ) | ( [02468] [048] | [13579] [26] ) "00"
day28 ::= "0" [1-9] | "1" [0-9] | "2" [0-8]
day30 ::= day28 | "29" | "30"
day31 ::= day30 | "31"
time ::= ( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9] ":" [0-5] [0-9] ( "." [0-9]{1,6} )? zone
zone ::= "Z" | [-+] ( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9]
date-time ::= date "T" time
count ::= [0-9]{1,4}
duration ::= "P" ( years | months | days | count "W" | clock )
years ::= count "Y" ( months | clock )?
months ::= count "M" ( days | clock )?
days ::= count "D" clock?
clock ::= "T" ( hours | minutes | seconds )
hours ::= count "H" minutes?
minutes ::= count "M" seconds?
seconds ::= count "S"
uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
label ::= [a-zA-Z0-9] ( [a-zA-Z0-9-]{0,30} [a-zA-Z0-9] )?
hostname ::= label ( "." label ){0,5}
email ::= atom ( "." atom ){0,3} "@" label ( "." label ){1,5}
atom ::= [a-zA-Z0-9_+-]{1,15}
octet ::= "25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9]
ipv4 ::= octet ( "." octet ){3}
group ::= hex{1,4}
ipv6 ::= group ( ":" group ){7} | "::" ( group ( ":" group ){0,5} )? | group ( ":" group ){0,2} "::" ( group ( ":" group ){0,2} )?
uri ::= [a-z] [a-z0-9]{1,15} ":" ( "//" hostname ( ":" [1-9] [0-9]{0,3} )? ( "/" path* )? | [a-zA-Z0-9] path* ) ( "?" path* )? ( "#" path* )?
path ::= [a-zA-Z0-9._~!$&()*+,;=:@/-] | "%" hex{2}
"""  # noqa: E501
FORMATS: Final = frozenset(
    {"date", "time", "date-time", "duration", "uuid", "hostname", "email", "ipv4", "ipv6", "uri"}
)
