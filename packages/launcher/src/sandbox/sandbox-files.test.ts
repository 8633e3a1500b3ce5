import { expect, test } from "bun:test";
import { placeSecrets } from "./sandbox-files.ts";

test("binds no OAuth refresh token, not even an invalid one, into a sandbox", () => {
  for (const value of ['{"oauth_refresh":{"refresh_token":"r"}}', ' { "oauth_refresh": 1 }'])
    expect(() => placeSecrets({} as never, [{ key: "K", env: "E" }], { K: value })).toThrow(
      'Cannot bind the secret "K": it is an OAuth refresh token',
    );
  expect(placeSecrets({} as never, [{ key: "K", env: "E" }], { K: '{"other":1}' })).toEqual({
    E: '{"other":1}',
  });
});
