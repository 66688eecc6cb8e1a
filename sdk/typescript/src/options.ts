/** Options in JavaScript: a misspelled or mistakenly undefined option must not be treated as left out. */

import { inspect } from 'node:util'

import { ConfigurationError } from './errors.js'

/** A value in an error. */
export function shown(value: unknown): string {
  return typeof value === 'string' ? `\`${value}\`` : inspect(value, { depth: 1, breakLength: Infinity })
}

/** Refuses a value that is not an object of options, and unknown options. */
export function checkOptions(what: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new ConfigurationError(`${what} is an object with ${known.join(', ')}: not ${shown(options)}`)
  }
  const unknown = Object.keys(options).filter((name) => !known.includes(name))
  if (unknown.length > 0) {
    throw new ConfigurationError(`${what} can't have ${unknown.map(shown).join(', ')}: it can have ${known.join(', ')}`)
  }
}

/** Refuses options that are named and undefined: the caller meant to set them. */
export function checkDefined(what: string, options: object): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) {
      throw new ConfigurationError(`${name} of ${what} is undefined: say what it is, or leave it out`)
    }
  }
}
