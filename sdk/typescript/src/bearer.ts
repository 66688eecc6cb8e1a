/** Bearer tokens in the headers of requests. */

/** The token in an `authorization` header; undefined where there is none. */
export function tokenOf(header: string | undefined): string | undefined {
  const [, token] = /^bearer +(\S+) *$/i.exec(header ?? '') ?? []
  return token
}
