import type { Reporter, TestModule } from 'vitest/node';

/** Prints every test file's seconds, the longest first: where to look when the tests take too long. */
export default class FileSeconds implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const rows = modules.map((module) => {
      const { duration, collectDuration, setupDuration, prepareDuration, environmentSetupDuration } = module.diagnostic();
      return { file: module.relativeModuleId, seconds: (duration + collectDuration + setupDuration + prepareDuration + environmentSetupDuration) / 1000 };
    });
    rows.sort((a, b) => b.seconds - a.seconds);
    console.log(['\nseconds by test file, imports included', ...rows.map(({ file, seconds }) => `${seconds.toFixed(1).padStart(8)}  ${file}`)].join('\n'));
  }
}
