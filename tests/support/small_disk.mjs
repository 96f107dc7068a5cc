/* small_disk.mjs - a disk of a few hundred kilobytes: what runs out of room there.
 *
 * A tmpfs that is mounted for one story; needs root that may mount. Unmounted when the process ends.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';

/** Mounts a disk of so many KiB; gives {dir, fill(), free(), remove()}. */
export function mountSmallDisk(kib) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-disk-'));
    const made = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k,mode=700`, 'none', dir], { encoding: 'utf8' });
    if (made.status !== 0) {
        fs.rmdirSync(dir);
        throw new Error(`mount: ${made.stderr ?? made.error}`);
    }
    const filler = path.join(dir, 'filler');
    const disk = {
        dir,
        /** Leaves no room. */
        fill() {
            const fd = fs.openSync(filler, 'a');
            try {
                for (;;)
                    fs.writeSync(fd, Buffer.alloc(4096));
            } catch (e) {
                if (e.code !== 'ENOSPC')
                    throw e;
            } finally {
                fs.closeSync(fd);
            }
        },
        /** Makes room again. */
        free() {
            fs.rmSync(filler, { force: true });
        },
        remove() {
            process.off('exit', disk.remove);
            spawnSync('umount', ['-l', dir]);
            fs.rmdirSync(dir);
        },
    };
    process.on('exit', disk.remove);
    return disk;
}

/** Why there can be no small disk here, or false. */
export function smallDiskMissing() {
    try {
        mountSmallDisk(64).remove();
        return false;
    } catch (e) {
        return `needs to mount a tmpfs (${e.message.trim()})`;
    }
}
