"""GBNF of the string formats of JSON Schema."""

from __future__ import annotations

import functools
from typing import Final

from chatsite.engine.grammar.gbnf import parse
from chatsite.engine.grammar.text_language import Language, of_rule

# RFC 3339 and its appendix A, RFC 1123, 4122, 4291 and 3986, each as far as a model needs it:
# everything allowed is valid, not everything valid is allowed.
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
email ::= atom ( "." atom )? "@" label ( "." label ){1,3}
atom ::= [a-zA-Z0-9_+-]{1,30}
octet ::= "25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9]
ipv4 ::= octet ( "." octet ){3}
group ::= hex{1,4}
ipv6 ::= group ( ":" group ){7} | "::" ( group ( ":" group ){0,5} )? | group ( ":" group ){0,2} "::" ( group ( ":" group ){0,2} )?
uri ::= [a-z] [a-z0-9]{1,15} ":" ( "//" hostname ( ":" [1-9] [0-9]{0,3} )? ( "/" path{0,200} )? | [a-zA-Z0-9] path{0,200} ) ( "?" path{0,200} )? ( "#" path{0,100} )?
path ::= [a-zA-Z0-9._~!$&()*+,;=:@/-] | "%" hex{2}
json-pointer ::= ( "/" [a-zA-Z0-9_.$@-]{0,64} ){0,16}
relative-json-pointer ::= ( "0" | [1-9] [0-9]{0,3} ) ( "#" | json-pointer )
regex ::= "^"? ( [a-zA-Z0-9_ -] ( [*+?] | "{" [1-9] "}" )? ){0,64} "$"?
short-hostname ::= short-label "." short-label
short-email ::= short-label "@" short-label "." short-label
short-uri ::= "https://" short-hostname "/" [a-z0-9._~/-]{0,60}
short-label ::= [a-z0-9]{1,20}
base64 ::= ( base64-digit{4} )* ( base64-digit{2} "==" | base64-digit{3} "=" )?
base64-digit ::= [a-zA-Z0-9+/]
base16 ::= ( hex{2} )*
hex ::= [0-9a-fA-F]
"""  # noqa: E501
# The rule of each format. All texts of a narrower format's rule are valid in a wider one.
FORMATS: Final = {
    **{name: name for name in ("date", "time", "date-time", "duration", "uuid", "hostname")},
    **{name: name for name in ("email", "ipv4", "ipv6", "uri", "json-pointer", "regex")},
    "relative-json-pointer": "relative-json-pointer",
    "uri-template": "uri",
    "uri-reference": "uri",
    "iri": "uri",
    "iri-reference": "uri",
    "idn-email": "email",
    "idn-hostname": "hostname",
}
ENCODINGS: Final = {"base64": "base64", "base16": "base16"}


@functools.cache
def language(rule: str) -> Language:
    """Return the language of a rule of `RULES`."""
    return of_rule(parse(f"root ::= {rule}\n{RULES}"), rule)
