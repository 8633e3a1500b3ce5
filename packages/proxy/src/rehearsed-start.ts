/**
 * The start that is rehearsed, in CBOR and base64; rehearsed-start.test.ts shows what it is. As bytes, because a proxy only
 * decodes: the encoder would be a quarter of its bundle.
 */
export const rehearsedStart =
  "p2ZncmFudHOBoWdhY3Rpb25zgWRub25laHNlcnZpY2VzoWRub25lomh1cHN0cmVhbXBodHRwOi8vMTI3LjAuMC4xbmluamVjdF9o" +
  "ZWFkZXJzoW1BdXRob3JpemF0aW9uZE5BTUVpcHJpbmNpcGFsb2FnZW50L3JlaGVhcnNhbGtjcmVkZW50aWFsc6FkTkFNRWV2YWx1" +
  "ZWtzb2NrZXRfcGF0aGEvbm1hdHJpeF91c2VyX2lkdEByZWhlYXJzYWw6bG9jYWxob3N0cWFkbWluX3NvY2tldF9wYXRoYS8=";
