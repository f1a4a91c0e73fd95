import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const server = process.env.FANLIGHT_SERVER ?? 'http://127.0.0.1:8080';

// biome-ignore lint/style/noDefaultExport: Vite reads its configuration from the default export.
export default defineConfig({
  plugins: [svelte()],
  resolve: { conditions: ['fanlight-source', 'module', 'browser', 'development|production'] },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    assetsDir: 'assets',
    // The server's Content-Security-Policy need not allow `data:`.
    assetsInlineLimit: 0,
    target: ['chrome111', 'firefox115', 'safari16.4'],
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      '/api': server,
      '/hls': server,
      '/whip': server,
      '/ws': { target: server, ws: true },
    },
  },
});
