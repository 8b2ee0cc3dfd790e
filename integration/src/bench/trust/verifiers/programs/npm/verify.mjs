// `node verify.mjs KEY.pub BUNDLE ARTIFACT`: exits with 0 when @sigstore/verify accepts the bundle under that key and no
// other, without a transparency log; with 1 and its reason when it refuses; with 2 when something else is wrong.

import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { bundleFromJSON, ValidationError } from "@sigstore/bundle";
import { toSignedEntity, toTrustMaterial, VerificationError, Verifier } from "@sigstore/verify";

const [keyFile, bundleFile, artifactFile] = process.argv.slice(2);

try {
  const publicKey = createPublicKey(readFileSync(keyFile));
  const nobody = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
  const trust = toTrustMaterial(nobody, () => ({ publicKey, validFor: () => true }));
  const verifier = new Verifier(trust, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 });
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundleFile, "utf8")));
  verifier.verify(toSignedEntity(bundle, readFileSync(artifactFile)));
} catch (error) {
  console.error(`${error}`);
  const refused = error instanceof VerificationError || error instanceof ValidationError;
  process.exit(refused ? 1 : 2);
}
