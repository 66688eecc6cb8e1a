/** A TCP proxy whose connections can stall while they stay open. */

import { type AddressInfo, type Socket, connect, createServer } from 'node:net'

/** Forwards to `address`; `stall` stops what is connected, and not what connects later. */
export class Proxy {
  readonly #sockets = new Set<Socket>()
  readonly #server
  #isSilent = false

  constructor(address: string) {
    const { hostname, port } = new URL(address)
    this.#server = createServer((near) => {
      if (this.#isSilent) {
        this.#sockets.add(near)
        return
      }
      const far = connect(Number(port), hostname)
      near.pipe(far).pipe(near)
      for (const socket of [near, far]) {
        this.#sockets.add(socket)
        socket.on('error', () => {})
      }
    })
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Connections from now on are accepted, and nothing is said on them. */
  silence(): void {
    this.#isSilent = true
  }

  /** Connections of now forward nothing more. */
  stall(): void {
    this.#sockets.forEach((socket) => socket.unpipe().pause())
  }

  close(): void {
    this.#sockets.forEach((socket) => socket.destroy())
    this.#server.close()
  }
}
