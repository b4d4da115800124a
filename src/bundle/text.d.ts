// bun-types knows `.txt`.
declare module "*.sh" {
  const text: string;
  export = text;
}
